// The extension module `bitnet.kernels._native`.
//
// Tensors arrive as addresses, whose dtype, shape, layout and device the Python side (bitnet/kernels/prepared.py) has
// checked; nothing else may call these functions. `try_forward` and `try_forward_all` take tensors and check them
// themselves.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "exchange.h"
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

bitnet::Exchange exchange;

template <class T>
T* data(const bitnet::DLTensor& tensor) {
    return reinterpret_cast<T*>(static_cast<char*>(tensor.data) + tensor.byte_offset);
}

// Tokens in `x`, if the weight can write their products into `y`; else -1.
int64_t tokens_between(const Weight& weight, const bitnet::DLTensor& x, const bitnet::DLTensor& y) {
    const int32_t last = x.ndim - 1;
    if (last < 0 || y.ndim != x.ndim || x.shape[last] != weight.width() || y.shape[last] != weight.rows()) return -1;
    int64_t count = 1;
    for (int32_t i = 0; i < last; ++i) {
        if (x.shape[i] != y.shape[i]) return -1;
        count *= x.shape[i];
    }
    return count;
}

// y = W x, if both are tensors as the kernels take them and of shapes that fit; else false, and nothing is done.
bool try_forward(const Weight& weight, nb::handle x, nb::handle y, int threads) {
    bitnet::DLTensor from, to;
    if (!exchange.plain(x, &from) || !exchange.plain(y, &to)) return false;
    const int64_t count = tokens_between(weight, from, to);
    if (count < 0) return false;
    const nb::gil_scoped_release released;
    weight.forward(data<const float>(from), count, data<float>(to), threads);
    return true;
}

// The same for several weights of one x; a tuple, whose tensors nobody can take away meanwhile.
bool try_forward_all(const std::vector<const Weight*>& weights, nb::handle x, nb::tuple ys, int threads) {
    bitnet::DLTensor from, to;
    if (weights.empty() || ys.size() != weights.size() || !exchange.plain(x, &from)) return false;
    std::vector<float*> results;
    int64_t count = 0;
    for (const nb::handle y : ys) {
        const Weight* weight = weights[results.size()];
        if (!weight || !exchange.plain(y, &to)) return false;
        count = tokens_between(*weight, from, to);
        if (count < 0) return false;
        results.push_back(data<float>(to));
    }
    const nb::gil_scoped_release released;
    bitnet::forward_all(weights.data(), weights.size(), data<const float>(from), count, results.data(), threads);
    return true;
}

}  // namespace

NB_MODULE(_native, m) {
    m.def("backends", &backends);
    m.def("quantize", &quantize, nb::arg("backend"), nb::arg("x"), nb::arg("width"), nb::arg("codes"));
    m.def("exchange", [](nb::handle type, nb::handle table) { exchange.use(type, table); }, nb::arg("type"),
          nb::arg("table"));
    m.def("try_forward_all", &try_forward_all);
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
        .def("try_forward", &try_forward)
        .def("accumulate",
             [](const Weight& self, uintptr_t codes, int64_t count, uintptr_t sums, int threads) {
                 if (count == 0) return;
                 self.accumulate(pointer<const int8_t>(codes), count, pointer<int32_t>(sums), threads);
             },
             nb::call_guard<nb::gil_scoped_release>())
        .def_prop_ro("bytes", &Weight::bytes);
    bind_decoder(m);
}
