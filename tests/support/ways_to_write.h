// Every way that a process has to write to memory that it was handed a descriptor of, tried.
#pragma once

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace kvtier::test_support {

enum WayToWrite : uint32_t {
  kMapForWriting = 1 << 0,
  kProtectForWriting = 1 << 1,
  kWriteToDescriptor = 1 << 2,
  kPunchHole = 1 << 3,
  kShrink = 1 << 4,
  kGrow = 1 << 5,
  kWriteByMemFile = 1 << 6,
  kRemovePages = 1 << 7,
  kTruncateByOpening = 1 << 8,
};

namespace ways_to_write_internal {

inline uint32_t TryDescriptor(int fd, size_t bytes) {
  uint32_t ways = 0;
  const char byte = 1;
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) {
    ways |= kMapForWriting;
    munmap(mapped, bytes);
  }
  mapped = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) {
    const int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    if (memory >= 0 &&
        pwrite(memory, &byte, 1, static_cast<off_t>(reinterpret_cast<uintptr_t>(mapped))) == 1) {
      ways |= kWriteByMemFile;
    }
    if (memory >= 0) close(memory);
    if (madvise(mapped, bytes, MADV_REMOVE) == 0) ways |= kRemovePages;
    if (mprotect(mapped, bytes, PROT_READ | PROT_WRITE) == 0) ways |= kProtectForWriting;
    munmap(mapped, bytes);
  }
  const auto size = static_cast<off_t>(bytes);
  if (pwrite(fd, &byte, 1, 0) == 1) ways |= kWriteToDescriptor;
  if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size) == 0) ways |= kPunchHole;
  if (ftruncate(fd, size / 2) == 0) ways |= kShrink;
  if (ftruncate(fd, size * 2) == 0) ways |= kGrow;
  return ways;
}

}  // namespace ways_to_write_internal

// Those that work on `fd`, of memory of so many bytes, or on it opened once more for writing. Only
// system calls, so that a forked child may call it.
inline uint32_t WaysToWrite(int fd, size_t bytes) {
  uint32_t ways = ways_to_write_internal::TryDescriptor(fd, bytes);
  char path[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const int again = open(path, O_RDWR | O_CLOEXEC);
  if (again >= 0) {
    ways |= ways_to_write_internal::TryDescriptor(again, bytes);
    close(again);
  }
  const int truncated = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
  if (truncated >= 0) {
    ways |= kTruncateByOpening;
    close(truncated);
  }
  return ways;
}

}  // namespace kvtier::test_support
