#include "repack.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace bitnet {
namespace {

// Digits of every byte, four ("2bit") or five ("base3") of them; a byte that stands for no codes has digit 3.
struct Tables {
    uint32_t two_bit[256];
    uint8_t base3[256][8];
    Tables() {
        for (uint32_t byte = 0; byte < 256; ++byte) {
            two_bit[byte] = (byte & 3) | (byte & 12) << 6 | (byte & 48) << 12 | (byte & 192) << 18;
            for (uint32_t i = 0, rest = byte; i < 8; ++i, rest /= 3)
                base3[byte][i] = static_cast<uint8_t>(byte < 243 ? rest % 3 : 3);
        }
    }
};
const Tables kTables;

[[noreturn]] void refuse() { throw std::invalid_argument("a byte stands for no codes"); }

int64_t row_bytes(const std::string& codec, int64_t width) {
    return codec == "int8" ? width : codec == "2bit" ? (width + 3) / 4 : (width + 4) / 5;
}

// Digits of one row; writes up to seven more than there are weights.
void read_row(const uint8_t* bytes, const std::string& codec, int64_t width, uint8_t* digits) {
    const int64_t count = row_bytes(codec, width);
    if (codec == "int8")
        for (int64_t i = 0; i < count; ++i) digits[i] = static_cast<uint8_t>(bytes[i] + 1);
    else if (codec == "2bit")
        for (int64_t i = 0; i < count; ++i) std::memcpy(digits + 4 * i, &kTables.two_bit[bytes[i]], 4);
    else
        for (int64_t i = 0; i < count; ++i) std::memcpy(digits + 5 * i, kTables.base3[bytes[i]], 8);
    uint8_t largest = 0;
    for (int64_t k = 0; k < width; ++k) largest = digits[k] > largest ? digits[k] : largest;
    if (largest > 2) refuse();
}

uint32_t load_word(const uint8_t* from) {
    uint32_t word;
    std::memcpy(&word, from, sizeof word);
    return word;
}

// One block, row by row; `rows` of it exist.
void repack_block(const uint8_t* packed, const std::string& codec, const Matrix& m, int64_t width, int64_t rows,
                  uint8_t* out) {
    const int64_t padded = m.steps * kStep, bytes = row_bytes(codec, width);
    std::vector<uint8_t> read(static_cast<size_t>(width) + 8), placed(static_cast<size_t>(4 * padded));
    for (int64_t lane = 0; lane < kRowLanes; ++lane) {
        std::fill(placed.begin(), placed.end(), uint8_t{1});
        for (int64_t p = 0, r = lane; p < 4 && r < rows; ++p, r += kRowLanes) {
            read_row(packed + r * bytes, codec, width, read.data());
            spread(reinterpret_cast<const int8_t*>(read.data()), width, m.group_size, m.group_steps,
                   reinterpret_cast<int8_t*>(&placed[static_cast<size_t>(p * padded)]));
        }
        for (int64_t s = 0; s < m.steps; ++s) {
            const uint8_t* at = placed.data() + s * kStep;
            const uint32_t word = load_word(at) | load_word(at + padded) << 2 | load_word(at + 2 * padded) << 4 |
                                  load_word(at + 3 * padded) << 6;
            std::memcpy(out + s * kBlockBytes + lane * kStep, &word, sizeof word);
        }
    }
}

}  // namespace

void spread(const int8_t* from, int64_t width, int64_t group_size, int64_t group_steps, int8_t* to) {
    for (; width > 0; width -= group_size, from += group_size, to += group_steps * kStep)
        std::memcpy(to, from, static_cast<size_t>(std::min(width, group_size)));
}

void repack(const uint8_t* packed, const std::string& codec, const Matrix& m, int64_t width, uint8_t* digits) {
    for (int64_t row = 0; row < m.rows; row += kRows, digits += m.steps * kBlockBytes)
        repack_block(packed + row * row_bytes(codec, width), codec, m, width, m.rows - row, digits);
}

}  // namespace bitnet
