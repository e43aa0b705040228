// Carries out VPDPBUSD in its AVX-VNNI encoding where the processor does not know it: the system reports an illegal
// instruction, and this does what it says to the registers and goes on behind it. `nox -s avxvnni` links it.
#include <signal.h>
#include <sys/ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t kHeader = 512, kUpper = 576;  // of an XSAVE area: which parts are valid, upper halves of YMM

struct Registers {
    explicit Registers(ucontext_t* context) : general(context->uc_mcontext.gregs) {
        area = reinterpret_cast<uint8_t*>(context->uc_mcontext.fpregs);
        std::memcpy(&valid, area + kHeader, sizeof valid);
        if (!(valid & 4)) std::memset(area + kUpper, 0, 256);
        valid |= 6;
        std::memcpy(area + kHeader, &valid, sizeof valid);
    }
    uint8_t* half(int number, int upper) {
        return upper ? area + kUpper + 16 * number : reinterpret_cast<uint8_t*>(xmm()) + 16 * number;
    }
    void* xmm() { return reinterpret_cast<_libc_fpstate*>(area)->_xmm; }
    // Encoded numbers are in another order than the system's.
    int64_t value(int number) const {
        static const int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
        return general[kOrder[number]];
    }
    greg_t* general;
    uint8_t* area;
    uint64_t valid;
};

[[noreturn]] void unknown(const uint8_t* code) {
    std::fprintf(stderr, "an instruction that is not carried out: %02x %02x %02x %02x %02x\n", code[0], code[1], code[2],
                 code[3], code[4]);
    std::_Exit(3);
}

int32_t number(const uint8_t* at, int bytes) {
    int32_t wide;
    if (bytes == 1) return static_cast<int8_t>(*at);
    std::memcpy(&wide, at, sizeof wide);
    return wide;
}

// The memory operand; `next` moves behind it.
const uint8_t* address(const Registers& r, int prefix, int mode, int base, const uint8_t*& next) {
    const int base_high = prefix & 0x20 ? 0 : 8, index_high = prefix & 0x40 ? 0 : 8;
    int64_t sum = 0;
    bool has_base = true;
    if (base == 4) {
        const int sib = *next++, index = (sib >> 3 & 7) | index_high;
        base = sib & 7;
        if (index != 4) sum += r.value(index) * (1 << (sib >> 6));
        has_base = mode != 0 || base != 5;
    } else if (mode == 0 && base == 5) {
        const int32_t offset = number(next, 4);
        next += 4;
        return next + offset;
    }
    const int bytes = mode == 1 ? 1 : mode == 2 || !has_base ? 4 : 0;
    if (has_base) sum += r.value(base | base_high);
    if (bytes) sum += number(next, bytes);
    next += bytes;
    return reinterpret_cast<const uint8_t*>(sum);
}

void carry_out(int, siginfo_t*, void* context) {
    Registers r(static_cast<ucontext_t*>(context));
    const uint8_t* code = reinterpret_cast<const uint8_t*>(r.general[REG_RIP]);
    // VEX.66.0F38.W0 50 /r, of 256 or 128 bits.
    if (code[0] != 0xC4 || (code[1] & 0x1F) != 2 || (code[2] & 0x83) != 1 || code[3] != 0x50) unknown(code);
    const int target = (code[4] >> 3 & 7) | (code[1] & 0x80 ? 0 : 8), digits = ~code[2] >> 3 & 15;
    const int mode = code[4] >> 6, other = code[4] & 7, halves = code[2] & 4 ? 2 : 1;
    const uint8_t* next = code + 5;
    const uint8_t* memory = mode == 3 ? nullptr : address(r, code[1], mode, other, next);
    for (int h = 0; h < halves; ++h) {
        int32_t sums[4];
        uint8_t left[16];
        int8_t right[16];
        std::memcpy(sums, r.half(target, h), 16);
        std::memcpy(left, r.half(digits, h), 16);
        std::memcpy(right, memory ? memory + 16 * h : r.half(other | (code[1] & 0x20 ? 0 : 8), h), 16);
        for (int i = 0; i < 16; ++i)
            sums[i / 4] = static_cast<int32_t>(static_cast<uint32_t>(sums[i / 4]) + static_cast<uint32_t>(left[i] * right[i]));
        std::memcpy(r.half(target, h), sums, 16);
    }
    if (halves == 1) std::memset(r.half(target, 1), 0, 16);
    r.general[REG_RIP] = reinterpret_cast<greg_t>(next);
}

const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = carry_out;
    action.sa_flags = SA_SIGINFO;
    return sigaction(SIGILL, &action, nullptr) == 0;
}();

}  // namespace
