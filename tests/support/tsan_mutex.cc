// Tells ThreadSanitizer what absl::Mutex orders. The library is prebuilt and not instrumented, so
// without this every use of correctly locked data is a race. Linked into tests of what uses it:
// calls reach these definitions instead of the library's, which they go on to.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <string>
#include <thread>

#include "absl/base/options.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

namespace absl {
ABSL_NAMESPACE_BEGIN

namespace {

#define KVTIER_TEXT_OF(name) #name
#define KVTIER_TEXT(name) KVTIER_TEXT_OF(name)

// The library's own member of that mangled name.
template <typename Function>
Function* Library(const char* name) {
  static const std::string space = KVTIER_TEXT(ABSL_OPTION_INLINE_NAMESPACE_NAME);
  const std::string mangled = "_ZN4absl" + std::to_string(space.size()) + space + "5Mutex" + name;
  void* const found = dlsym(RTLD_NEXT, mangled.c_str());
  if (found == nullptr) __builtin_trap();
  return reinterpret_cast<Function*>(found);
}

}  // namespace

void Mutex::Lock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  static auto* const lock = Library<void(Mutex*)>("4LockEv");
  lock(this);
  __tsan_acquire(this);
}

bool Mutex::TryLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  static auto* const try_lock = Library<bool(Mutex*)>("7TryLockEv");
  const bool locked = try_lock(this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::Unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  static auto* const unlock = Library<void(Mutex*)>("6UnlockEv");
  __tsan_release(this);
  unlock(this);
}

// Whoever waits looks for himself: the library would have the condition evaluated by whoever gives
// the mutex up, after its release.
void Mutex::Await(const Condition& condition) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  while (!condition.Eval()) {
    Unlock();
    std::this_thread::yield();
    Lock();
  }
}

bool Mutex::AwaitWithTimeout(const Condition& condition,
                             Duration timeout) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  const Time deadline = Now() + timeout;
  while (!condition.Eval()) {
    if (Now() >= deadline) return false;
    Unlock();
    std::this_thread::yield();
    Lock();
  }
  return true;
}

void Mutex::LockWhen(const Condition& condition) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Lock();
  Await(condition);
}

ABSL_NAMESPACE_END
}  // namespace absl
