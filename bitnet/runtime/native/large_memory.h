// Memory on large pages where much is read: from small ones, the processor spends more time on addresses than on data.
// And on small pages where little of it may be used.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace bitnet {

#ifdef __linux__
constexpr int kForget = MADV_DONTNEED, kSmallPages = MADV_NOHUGEPAGE, kLargePages = MADV_HUGEPAGE;
#else
constexpr int kForget = 0, kSmallPages = 0, kLargePages = 0;
#endif

struct Release {
    void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<void, Release>;

// Advise the system on the whole pages within [from, from + bytes).
inline void advise([[maybe_unused]] uintptr_t from, [[maybe_unused]] size_t bytes, [[maybe_unused]] int advice) {
#ifdef __linux__
    const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t first = (from + page - 1) / page * page, last = (from + bytes) / page * page;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, advice);
#endif
}

// Give back the memory of a mapped file's pages, which are read again when they are needed.
inline void forget_mapped(uintptr_t from, size_t bytes) { advise(from, bytes, kForget); }

// Uninitialised floats, whose memory the system gives page by page, small ones, as they are written to.
inline std::unique_ptr<float[]> sparse_floats(size_t count) {
    std::unique_ptr<float[]> memory(new float[count]);
    advise(reinterpret_cast<uintptr_t>(memory.get()), count * sizeof(float), kSmallPages);
    return memory;
}

// A copy of `bytes` bytes of a mapped file, on large pages where the system has them; the file's are given back on the
// way. Throws std::bad_alloc.
inline Memory large_copy(const void* from, size_t bytes) {
    constexpr size_t kLargePage = size_t{2} << 20;
    const size_t unit = bytes < kLargePage ? 64 : kLargePage;
    Memory memory(std::aligned_alloc(unit, (bytes / unit + 1) * unit));
    if (!memory) throw std::bad_alloc();
    // What lies beyond the last whole page stays on small ones, which are not filled up.
    if (unit == kLargePage) advise(reinterpret_cast<uintptr_t>(memory.get()), bytes / unit * unit, kLargePages);
    const char* source = static_cast<const char*>(from);
    for (size_t done = 0, part; done < bytes; done += part) {
        part = bytes - done < kLargePage ? bytes - done : kLargePage;
        std::memcpy(static_cast<char*>(memory.get()) + done, source + done, part);
        forget_mapped(reinterpret_cast<uintptr_t>(source + done), part);
    }
    return memory;
}

}  // namespace bitnet
