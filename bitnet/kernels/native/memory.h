// Memory for the kernels: aligned scratch, and large pages that many weights share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace bitnet {

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
template <class T>
using Aligned = std::unique_ptr<T[], Free>;

// Uninitialised memory on a cache-line boundary; throws std::bad_alloc.
void* allocate(size_t bytes);
template <class T>
Aligned<T> aligned(size_t count) {
    return Aligned<T>(static_cast<T*>(allocate(count * sizeof(T))));
}

// Uninitialised memory on a cache-line boundary, next to what was asked for before: one after the other, the weights of
// a model fill large pages, which spare the processor most of its look-ups. Freed, it goes back to the system.
std::shared_ptr<uint8_t> pooled(size_t bytes);

}  // namespace bitnet
