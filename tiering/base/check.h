// Checks of invariants, on in every build. A failure is a bug of ours: it prints where and what,
// and aborts. Bad input is never a failed check; it is a Status.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace kvtier {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what);
  std::fflush(stderr);
  std::abort();
}

}  // namespace kvtier

#define KVTIER_CHECK(condition)                              \
  do {                                                       \
    if (!(condition)) [[unlikely]]                           \
      ::kvtier::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)
