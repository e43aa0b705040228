// Eight 32-bit sums. They have the type that the instructions work on: of another, GCC keeps a second copy of each.
#pragma once

#include <stdint.h>

namespace bitnet {
namespace {

typedef int32_t Sums __attribute__((vector_size(32), may_alias));
typedef uint32_t Wrapping __attribute__((vector_size(32)));

inline Sums difference(Sums a, Sums b) { return Sums(Wrapping(a) - Wrapping(b)); }

}  // namespace
}  // namespace bitnet
