#include "memory.h"

#include <mutex>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

// AddressSanitizer sees no borders within a pool.
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
#define BITNET_POOL
#endif

namespace bitnet {
namespace {

constexpr size_t kLine = 64;

size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

#ifdef BITNET_POOL
constexpr size_t kPage = 4096, kLargePage = size_t{2} << 20, kSlab = size_t{64} << 20;
// What is smaller than this would spare nothing.
constexpr size_t kSmallest = size_t{1} << 16;

// Address space whose pages the system gives as they are first written to.
struct Slab {
    explicit Slab(size_t bytes) : size(bytes + kLargePage) {
        memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        next = rounded(reinterpret_cast<uintptr_t>(memory), kLargePage);
        end = next + bytes;
        madvise(reinterpret_cast<void*>(next), bytes, MADV_HUGEPAGE);
    }
    ~Slab() { munmap(memory, size); }
    Slab(const Slab&) = delete;

    void* memory;
    size_t size;
    uintptr_t next, end;
};

void give_back(uint8_t* memory, size_t bytes) {
    const uintptr_t first = rounded(reinterpret_cast<uintptr_t>(memory), kPage);
    const uintptr_t last = (reinterpret_cast<uintptr_t>(memory) + bytes) / kPage * kPage;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}
#endif

}  // namespace

void* allocate(size_t bytes) {
    void* memory = std::aligned_alloc(kLine, rounded(bytes ? bytes : 1, kLine));
    if (!memory) throw std::bad_alloc();
    return memory;
}

std::shared_ptr<uint8_t> pooled(size_t bytes) {
#ifdef BITNET_POOL
    if (bytes >= kSmallest) {
        static std::mutex mutex;
        static std::shared_ptr<Slab> current;
        const std::lock_guard<std::mutex> lock(mutex);
        if (!current || current->end - current->next < bytes)
            current = std::make_shared<Slab>(bytes > kSlab ? rounded(bytes, kLargePage) : kSlab);
        uint8_t* memory = reinterpret_cast<uint8_t*>(current->next);
        current->next += rounded(bytes, kLine);
        return {memory, [slab = current, bytes](uint8_t* freed) { give_back(freed, bytes); }};
    }
#endif
    return {static_cast<uint8_t*>(allocate(bytes)), Free{}};
}

}  // namespace bitnet
