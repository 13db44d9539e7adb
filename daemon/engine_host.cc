#include "daemon/engine_host.h"

#include "tiering/base/check.h"

namespace kvtier {
namespace {

// While copies are in flight or wanted; a completion wakes the thread earlier.
constexpr absl::Duration kBusyTick = absl::Milliseconds(2);
// Else only timeouts have to be noticed, the shortest of which is 100 ms.
constexpr absl::Duration kIdleTick = absl::Milliseconds(20);
constexpr auto kRecheck = std::chrono::milliseconds(5);
// Rounds that one look at an engine that settles may take.
constexpr int kSettleRoundsMax = 64;

}  // namespace

void TickSignal::Wake() {
  {
    const MutexLock lock(mutex_);
    woken_ = true;
  }
  condition_.notify_one();
}

void TickSignal::Wait(absl::Duration timeout) {
  const MutexLock lock(mutex_);
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  while (!woken_ && condition_.wait_until(mutex_, deadline) == std::cv_status::no_timeout) {
  }
  woken_ = false;
}

EngineHost::EngineHost(std::unique_ptr<Engine> engine, Clock* clock,
                       std::shared_ptr<TickSignal> signal, size_t tenant_count)
    : engine_(std::move(engine)),
      clock_(clock),
      signal_(std::move(signal)),
      tenant_count_(tenant_count) {
  KVTIER_CHECK(engine_ != nullptr && clock_ != nullptr && signal_ != nullptr);
  thread_ = std::thread([this] { Run(); });
}

EngineHost::~EngineHost() {
  Interrupt();
  stopping_ = true;
  signal_->Wake();
  thread_.join();
}

void EngineHost::Run() {
  while (!stopping_) {
    const bool busy =
        With([this](Engine& engine, absl::Time now) { return !held() && engine.Tick(now); });
    signal_->Wait(busy ? kBusyTick : kIdleTick);
  }
}

bool EngineHost::TakeNewEvents() {
  uint64_t events = 0;
  for (size_t i = 0; i < tenant_count_; ++i) {
    events += engine_->events(TenantId(static_cast<uint16_t>(i))).last_sequence();
  }
  if (events == events_told_) return false;
  events_told_ = events;
  return true;
}

uint64_t EngineHost::WaitForEvents(TenantId tenant, uint64_t after, size_t events_max,
                                   absl::Duration timeout, std::vector<Event>& events) {
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  const MutexLock lock(mutex_);
  const EventLog& log = engine_->events(tenant);
  ++watchers_;
  while (log.last_sequence() == after && !interrupted_ &&
         activity_.wait_until(mutex_, deadline) == std::cv_status::no_timeout) {
  }
  --watchers_;
  log.Read(after, events_max, events);
  return log.first_sequence();
}

bool EngineHost::WaitUntil(const std::function<bool(Engine&)>& done, absl::Duration timeout) {
  const auto deadline = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  const MutexLock lock(mutex_);
  while (!done(*engine_)) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline || interrupted_) return false;
    activity_.wait_until(mutex_,
                         std::min<std::chrono::steady_clock::time_point>(deadline, now + kRecheck));
  }
  return true;
}

bool EngineHost::Settle(absl::Duration hold, absl::Duration timeout) {
  using std::chrono::steady_clock;
  held_until_ = steady_clock::time_point::max();
  const bool settled = WaitUntil(
      [this](Engine& engine) {
        for (int round = 0; round < kSettleRoundsMax; ++round) {
          if (!engine.SettleRound(clock_->Now())) return true;
          if (engine.Totals(std::nullopt).moves_in_flight > 0) return false;  // copies take time
        }
        return false;
      },
      timeout);
  held_until_ = settled ? steady_clock::now() + absl::ToChronoNanoseconds(hold)
                        : steady_clock::time_point::min();
  return settled;
}

void EngineHost::Interrupt() {
  {
    const MutexLock lock(mutex_);
    interrupted_ = true;
  }
  activity_.notify_all();
}

}  // namespace kvtier
