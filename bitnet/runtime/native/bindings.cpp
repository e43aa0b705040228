// `Decoder` in the extension module; addresses as in module.cpp, checked by bitnet/runtime.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "decoder.h"

namespace nb = nanobind;
using bitnet::Decoder;
using bitnet::Table;
using bitnet::TableKind;
using bitnet::Weight;

namespace {

template <class T>
const T* pointer(uintptr_t address) {
    return reinterpret_cast<const T*>(address);
}

Table table(const std::string& kind, uintptr_t values, uintptr_t scales) {
    if (kind != "float32" && kind != "float16" && kind != "int8") throw std::invalid_argument("an unknown table");
    const TableKind known = kind == "int8"      ? TableKind::kInt8
                            : kind == "float16" ? TableKind::kFloat16
                                                : TableKind::kFloat32;
    return {known, pointer<void>(values), pointer<float>(scales)};
}

}  // namespace

void bind_decoder(nb::module_& m) {
    m.def("forget_mapped", &bitnet::forget_mapped, nb::arg("address"), nb::arg("bytes"));
    nb::class_<Table>(m, "Table").def("__init__", [](Table* self, const std::string& kind, uintptr_t values,
                                                     uintptr_t scales) { new (self) Table(table(kind, values, scales)); });
    nb::class_<Decoder>(m, "Decoder")
        .def("__init__",
             [](Decoder* self, int64_t hidden, int64_t intermediate, int64_t heads, int64_t kv_heads, int64_t head_width,
                int64_t vocabulary, int64_t context, float epsilon, float rotary_factor, uintptr_t frequencies,
                uintptr_t norm, const Table& embedding, const Table& head) {
                 new (self) Decoder({hidden, intermediate, heads, kv_heads, head_width, vocabulary, context, epsilon,
                                     rotary_factor},
                                    pointer<float>(frequencies), pointer<float>(norm), embedding, head);
             },
             nb::arg("hidden"), nb::arg("intermediate"), nb::arg("heads"), nb::arg("kv_heads"), nb::arg("head_width"),
             nb::arg("vocabulary"), nb::arg("context"), nb::arg("epsilon"), nb::arg("rotary_factor"),
             nb::arg("frequencies"), nb::arg("norm"), nb::arg("embedding"), nb::arg("head"))
        .def("add_layer",
             [](Decoder& self, uintptr_t input_norm, uintptr_t post_norm, const Weight& query, const Weight& key,
                const Weight& value, const Weight& output, const Weight& gate, const Weight& up, const Weight& down) {
                 self.add_layer({pointer<float>(input_norm), pointer<float>(post_norm), &query, &key, &value, &output,
                                 &gate, &up, &down});
             },
             nb::keep_alive<1, 4>(), nb::keep_alive<1, 5>(), nb::keep_alive<1, 6>(), nb::keep_alive<1, 7>(),
             nb::keep_alive<1, 8>(), nb::keep_alive<1, 9>(), nb::keep_alive<1, 10>())
        .def("forward",
             [](Decoder& self, const std::vector<int64_t>& tokens, int64_t position, uintptr_t logits, bool all,
                int threads) {
                 float* out = reinterpret_cast<float*>(logits);
                 self.forward(tokens.data(), static_cast<int64_t>(tokens.size()), position, out, all, threads);
             },
             nb::call_guard<nb::gil_scoped_release>())
        .def("next",
             [](Decoder& self, const std::vector<int64_t>& tokens, int64_t position, int threads) {
                 return self.next(tokens.data(), static_cast<int64_t>(tokens.size()), position, threads);
             },
             nb::call_guard<nb::gil_scoped_release>())
        .def("embed",
             [](const Decoder& self, const std::vector<int64_t>& tokens, uintptr_t hidden) {
                 self.embed(tokens.data(), static_cast<int64_t>(tokens.size()), reinterpret_cast<float*>(hidden));
             })
        .def("layer",
             [](Decoder& self, int64_t index, uintptr_t hidden, int64_t count, int threads) {
                 self.layer(index, reinterpret_cast<float*>(hidden), count, threads);
             },
             nb::call_guard<nb::gil_scoped_release>())
        .def("head",
             [](Decoder& self, uintptr_t hidden, int64_t count, uintptr_t logits, int threads) {
                 self.head(pointer<float>(hidden), count, reinterpret_cast<float*>(logits), threads);
             },
             nb::call_guard<nb::gil_scoped_release>())
        .def_prop_ro("math", &Decoder::math);
}
