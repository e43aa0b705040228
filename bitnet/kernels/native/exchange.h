// Torch's tensors as they come, through DLPack's C interface: one call for all that Python would be asked for one by one.
//
// https://dmlc.github.io/dlpack/latest/c_api.html, version 1.3; torch has the table from 2.10 on. The layouts below are
// DLPack's, so that neither its header nor torch's is needed to build.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

namespace bitnet {

struct DLTensor {
    void* data;
    int32_t device_type, device_id, ndim;
    uint8_t type_code, type_bits;
    uint16_t type_lanes;
    const int64_t *shape, *strides;
    uint64_t byte_offset;
};

struct DLExchange {
    uint32_t major, minor;
    DLExchange* previous;
    void *allocate, *from_object, *to_object;
    int (*view)(void* object, DLTensor* out);  // sets a Python error where it fails
};

// A type of tensors and how to look into them.
class Exchange {
public:
    // The capsule that the type has as __dlpack_c_exchange_api__; one of another major version is left alone.
    void use(nanobind::handle type, nanobind::handle capsule) {
        const auto* table = static_cast<const DLExchange*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
        if (!table) throw nanobind::python_error();
        if (table->major != 1 || !table->view) return;
        type_ = nanobind::borrow(type).release().ptr();
        gradient_ = PyUnicode_InternFromString("requires_grad");
        negative_ = PyUnicode_InternFromString("is_neg");
        view_ = table->view;
    }

    // Whether `object` is, exactly, a dense float32 tensor of that type in the processor's memory without a gradient.
    bool plain(nanobind::handle object, DLTensor* out) const {
        if (!view_ || reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())) != type_) return false;
        if (view_(object.ptr(), out)) {
            PyErr_Clear();
            return false;
        }
        constexpr int32_t kProcessor = 1;
        constexpr uint8_t kFloat = 2;
        return out->data && out->device_type == kProcessor && out->type_code == kFloat && out->type_bits == 32 &&
               out->type_lanes == 1 && contiguous(*out) && is_false(PyObject_GetAttr(object.ptr(), gradient_)) &&
               is_false(PyObject_CallMethodNoArgs(object.ptr(), negative_));
    }

private:
    static bool is_false(PyObject* answer) {
        if (!answer) throw nanobind::python_error();
        Py_DECREF(answer);
        return answer == Py_False;
    }

    static bool contiguous(const DLTensor& tensor) {
        if (!tensor.strides) return true;
        int64_t next = 1;
        for (int32_t i = tensor.ndim; i-- > 0; next *= tensor.shape[i])
            if (tensor.shape[i] != 1 && tensor.strides[i] != next) return false;
        return true;
    }

    PyObject *type_ = nullptr, *gradient_ = nullptr, *negative_ = nullptr;  // live as long as the interpreter
    int (*view_)(void*, DLTensor*) = nullptr;
};

}  // namespace bitnet
