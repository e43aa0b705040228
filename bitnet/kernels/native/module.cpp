// The extension module `bitnet.kernels._native`.
//
// Tensors arrive as addresses: a torch tensor's `data_ptr()` costs a tenth of a DLPack exchange. The Python side
// (bitnet/kernels/prepared.py) checks dtype, shape, layout and device; nothing else may call these functions.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "weight.h"

namespace nb = nanobind;
using bitnet::Weight;

void bind_decoder(nb::module_& m);  // bitnet/runtime/native/bindings.cpp

namespace {

// A tensor without storage (fake, traced, mapped over) has no address.
template <class T>
T* pointer(uintptr_t address) {
    if (!address) throw std::invalid_argument("a tensor without memory");
    return reinterpret_cast<T*>(address);
}

std::vector<std::string> backends() {
    std::vector<std::string> names;
    for (const bitnet::Isa* isa : bitnet::supported_isas()) names.emplace_back(isa->name);
    return names;
}

float quantize(const std::string& backend, uintptr_t x, int64_t width, uintptr_t codes) {
    return bitnet::find_isa(backend).quantize(pointer<const float>(x), width, width, pointer<int8_t>(codes));
}

}  // namespace

NB_MODULE(_native, m) {
    m.def("backends", &backends);
    m.def("quantize", &quantize, nb::arg("backend"), nb::arg("x"), nb::arg("width"), nb::arg("codes"));
    nb::class_<Weight>(m, "Weight")
        .def("__init__",
             [](Weight* self, int64_t rows, int64_t width, int64_t group_size, const std::string& backend) {
                 new (self) Weight(rows, width, group_size, bitnet::find_isa(backend));
             },
             nb::arg("rows"), nb::arg("width"), nb::arg("group_size"), nb::arg("backend"))
        .def("add_plane",
             [](Weight& self, uintptr_t packed, const std::string& codec, uintptr_t scales, int64_t scale_rows) {
                 self.add_plane(pointer<const uint8_t>(packed), codec, pointer<const float>(scales), scale_rows);
             },
             nb::call_guard<nb::gil_scoped_release>())
        .def("set_bias", [](Weight& self, uintptr_t bias) { self.set_bias(pointer<const float>(bias)); })
        .def("forward",
             [](const Weight& self, uintptr_t x, int64_t count, uintptr_t y, int threads) {
                 if (count == 0) return;
                 self.forward(pointer<const float>(x), count, pointer<float>(y), threads);
             },
             nb::call_guard<nb::gil_scoped_release>())
        .def("accumulate",
             [](const Weight& self, uintptr_t codes, int64_t count, uintptr_t sums, int threads) {
                 if (count == 0) return;
                 self.accumulate(pointer<const int8_t>(codes), count, pointer<int32_t>(sums), threads);
             },
             nb::call_guard<nb::gil_scoped_release>())
        .def_prop_ro("bytes", &Weight::bytes);
    bind_decoder(m);
}
