// Packed rows, as files hold them, into the kernels' layout.
#pragma once

#include <string>

#include "kernel.h"

namespace bitnet {

// Scale groups of `from`, each to the start of its steps; what pads them is left as it is.
void spread(const int8_t* from, int64_t width, int64_t group_size, int64_t group_steps, int8_t* to);

// Whether groups are padded, so that a row cannot be taken as it lies.
inline bool padded_groups(const Matrix& m) { return m.groups > 1 && m.group_size % kStep; }

// Write the digits of a plane with the shape of `m` and `width` inputs from rows of codec "int8", "2bit" or "base3".
// Throws std::invalid_argument for a byte that stands for no codes.
void repack(const uint8_t* packed, const std::string& codec, const Matrix& m, int64_t width, uint8_t* digits);

}  // namespace bitnet
