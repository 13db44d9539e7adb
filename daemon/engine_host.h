// Owns the engine: one lock around it, and the thread that ticks it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "tiering/base/clock.h"
#include "tiering/base/mutex.h"
#include "tiering/engine/engine.h"

namespace kvtier {

// Wakes the tick thread. A copy engine's completion callback may call it: it never waits for the
// engine.
class TickSignal {
 public:
  void Wake();
  // Returns when woken, or after `timeout`.
  void Wait(absl::Duration timeout);

 private:
  Mutex mutex_;
  CondVar condition_;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
};

// Thread-safe. See docs/decisions/0002-engine-behind-a-lock.md for why a lock and no mailbox.
class EngineHost {
 public:
  // `clock` outlives the host.
  EngineHost(std::unique_ptr<Engine> engine, Clock* clock, std::shared_ptr<TickSignal> signal,
             size_t tenant_count);
  ~EngineHost();
  EngineHost(const EngineHost&) = delete;
  EngineHost& operator=(const EngineHost&) = delete;

  // Runs `call(engine, now)` as the engine's only user, inline. `call` must not block and must not
  // call the host.
  template <typename Call>
  auto With(Call&& call) {
    const HostLock lock(*this);
    return std::forward<Call>(call)(*engine_, clock_->Now());
  }

  // Has the engine tick soon: something was asked for that a tick does.
  void Wake() { signal_->Wake(); }

  // Waits until the tenant has an event after `after`, the host was interrupted, or `timeout`
  // passes; then appends at most `events_max` events. Returns the oldest sequence that is still
  // kept.
  uint64_t WaitForEvents(TenantId tenant, uint64_t after, size_t events_max, absl::Duration timeout,
                         std::vector<Event>& events);
  // Waits until `done(engine)` or `timeout` passes, asking every few milliseconds; returns whether
  // it is done.
  bool WaitUntil(const std::function<bool(Engine&)>& done, absl::Duration timeout);
  // Ticks until the engine has nothing left to do by itself (Engine::SettleRound), and then not at
  // all for as long as `hold`, or until the next call: what happens meanwhile follows from requests
  // alone. Returns false, with nothing held, if that takes longer than `timeout` or the host was
  // interrupted.
  bool Settle(absl::Duration hold, absl::Duration timeout);
  // Nothing is to be done in the background for now.
  bool held() const {
    return held_until_.load(std::memory_order_relaxed) > std::chrono::steady_clock::now();
  }
  // Ends all waits, now and later.
  void Interrupt();
  bool interrupted() const { return interrupted_; }

 private:
  // Holds the lock, and tells watchers when it is given up after new events.
  class ABSL_SCOPED_LOCKABLE HostLock {
   public:
    explicit HostLock(EngineHost& host) ABSL_EXCLUSIVE_LOCK_FUNCTION(host.mutex_) : host_(host) {
      host_.mutex_.Lock();
    }
    ~HostLock() ABSL_UNLOCK_FUNCTION() {
      const bool tell = host_.watchers_ > 0 && host_.TakeNewEvents();
      host_.mutex_.Unlock();
      if (tell) host_.activity_.notify_all();
    }
    HostLock(const HostLock&) = delete;
    HostLock& operator=(const HostLock&) = delete;

   private:
    EngineHost& host_;
  };

  void Run();
  // Whether any tenant got an event since the last call.
  bool TakeNewEvents();

  Mutex mutex_;
  CondVar activity_;
  std::unique_ptr<Engine> engine_;  // used under mutex_ only
  Clock* const clock_;
  const std::shared_ptr<TickSignal> signal_;
  const size_t tenant_count_;
  int watchers_ = 0;          // under mutex_
  uint64_t events_told_ = 0;  // under mutex_
  std::atomic<std::chrono::steady_clock::time_point> held_until_{};
  std::atomic<bool> interrupted_{false};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// A section of the engine for as long as the object lives: what is resolved or targeted inside it
// stays.
class EngineSection {
 public:
  // Enters and runs `call(engine, now)` under the same lock.
  template <typename Call>
  EngineSection(EngineHost& host, Call&& call) : host_(host) {
    host.With([&](Engine& engine, absl::Time now) {
      section_ = engine.EnterSection();
      std::forward<Call>(call)(engine, now);
    });
  }
  ~EngineSection() {
    host_.With([&](Engine& engine, absl::Time) { engine.ExitSection(section_); });
  }
  EngineSection(const EngineSection&) = delete;
  EngineSection& operator=(const EngineSection&) = delete;

 private:
  EngineHost& host_;
  SectionId section_;
};

}  // namespace kvtier
