#include "client/cli/replay/conductor.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/interrupt.h"
#include "client/cli/replay/worker_process.h"
#include "tiering/base/rng.h"

namespace kvtier::replay {
namespace {

double MachineSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Worker {
  std::unique_ptr<WorkerProcess> process;  // null: given up
  bool ready = false;                      // it has said hello
  bool killed = false;                     // by us
  uint32_t deaths_in_a_row = 0;
  std::optional<uint32_t> playing;  // of the schedule
  std::vector<uint32_t> plays;      // of the schedule, rising
  size_t next = 0;
};

class Conductor {
 public:
  Conductor(const sim::Trace& trace, const std::vector<sim::Play>& schedule,
            const ConductorOptions& options)
      : trace_(trace),
        schedule_(schedule),
        options_(options),
        rng_(options.seed),
        workers_(options.workers) {
    for (uint32_t i = 0; i < schedule.size(); ++i) workers_[schedule[i].worker].plays.push_back(i);
    report_.hits.resize(schedule.size());
  }

  absl::StatusOr<ReplayReport> Run() {
    for (uint32_t i = 0; i < workers_.size(); ++i) {
      if (absl::Status status = StartWorker(i); !status.ok()) return status;
    }
    absl::Status status;
    while (status.ok() && !AllReady()) status = Wait(-1);
    begin_s_ = NowSeconds();
    repeat_s_ = begin_s_;
    report_.repeats = 1;
    PlanKill();
    round_s_ = begin_s_;
    while (status.ok() && !Finished()) {
      const double next_s = SendDue();
      status = Wait(next_s);
      round_s_ = NowSeconds();
    }
    // What was played before a signal counts.
    if (!status.ok() && !(absl::IsCancelled(status) && report_.counts.requests > 0)) return status;
    report_.interrupted = !status.ok();
    report_.seconds = NowSeconds() - begin_s_;
    report_.trace_seconds += repeat_trace_s_;
    return std::move(report_);
  }

 private:
  double NowSeconds() const { return options_.now_s ? options_.now_s() : MachineSeconds(); }

  absl::Status StartWorker(uint32_t index) {
    auto process = WorkerProcess::Start(options_.worker_command(index));
    if (!process.ok()) return process.status();
    workers_[index].process = *std::move(process);
    workers_[index].ready = false;
    workers_[index].killed = false;
    return absl::OkStatus();
  }

  bool AllReady() const {
    return std::all_of(workers_.begin(), workers_.end(),
                       [](const Worker& worker) { return worker.ready || !worker.process; });
  }

  bool TimeIsUp() const {
    return options_.duration > absl::ZeroDuration() &&
           round_s_ - begin_s_ >= absl::ToDoubleSeconds(options_.duration);
  }

  // Begins the trace again where it is to be repeated.
  bool Finished() {
    bool left = false;
    for (const Worker& worker : workers_) {
      if (worker.playing.has_value()) return false;
      left = left || worker.next < worker.plays.size();
    }
    if (std::none_of(workers_.begin(), workers_.end(),
                     [](const Worker& worker) { return worker.process != nullptr; })) {
      for (const Worker& worker : workers_) report_.unplayed += worker.plays.size() - worker.next;
      return true;
    }
    if (TimeIsUp()) return true;
    if (left) return false;
    if (options_.duration <= absl::ZeroDuration()) return true;
    for (Worker& worker : workers_) worker.next = 0;
    for (Worker& worker : workers_) {
      if (worker.process == nullptr) HandOver(worker);
    }
    report_.trace_seconds += std::exchange(repeat_trace_s_, 0);
    repeat_s_ = NowSeconds();
    ++report_.repeats;
    return false;
  }

  double DueSeconds(const sim::Play& play) const {
    return options_.speed > 0 ? repeat_s_ + play.at_s / options_.speed : 0;
  }

  // Repeats go on where the trace ended; not 0, which would be none.
  uint64_t LogicalTimeUs(const sim::Play& play) const {
    return 1 + static_cast<uint64_t>((report_.trace_seconds + play.at_s) * 1e6);
  }

  // Gives every idle worker its next request, if it is time. Returns when there is something to do
  // again, if nothing else happens.
  double SendDue() {
    double next_s = kill_s_;
    if (options_.duration > absl::ZeroDuration())
      next_s = std::min(next_s, begin_s_ + absl::ToDoubleSeconds(options_.duration));
    if (TimeIsUp()) return kill_s_;
    for (Worker& worker : workers_) {
      if (!worker.ready || worker.playing || worker.next >= worker.plays.size()) continue;
      const uint32_t index = worker.plays[worker.next];
      const double due_s = DueSeconds(schedule_[index]);
      if (due_s > round_s_) {
        next_s = std::min(next_s, due_s);
        continue;
      }
      ++worker.next;
      worker.playing = index;
      repeat_trace_s_ = std::max(repeat_trace_s_, schedule_[index].at_s);
      const sim::TraceRequest& request = trace_.requests[schedule_[index].request];
      const auto ids = trace_.IdsOf(request);
      // A worker that is gone shows by the end of its output.
      (void)worker.process->Send(EncodeRequest(
          {index, request, {ids.begin(), ids.end()}, LogicalTimeUs(schedule_[index])}));
    }
    return next_s;
  }

  // Waits for a worker, a signal or `until_s` (negative: not), and takes what there is.
  absl::Status Wait(double until_s) {
    std::vector<pollfd> waits = {{cli::InterruptFd(), POLLIN, 0}};
    for (const Worker& worker : workers_)
      waits.push_back({worker.process ? worker.process->output_fd() : -1, POLLIN, 0});
    int timeout_ms = -1;
    if (until_s >= 0 && until_s < kNever) {
      timeout_ms =
          static_cast<int>(std::ceil(std::clamp((until_s - NowSeconds()) * 1000, 0.0, 1000'000.0)));
    }
    const int ready = ::poll(waits.data(), waits.size(), timeout_ms);
    if (absl::Status status = cli::CheckInterrupted(); !status.ok()) return status;
    if (ready < 0 && errno != EINTR) return absl::InternalError("poll failed");
    for (uint32_t i = 0; ready > 0 && i < workers_.size(); ++i) {
      if (waits[i + 1].revents == 0) continue;
      if (absl::Status status = Take(i); !status.ok()) return status;
    }
    if (NowSeconds() >= kill_s_) KillOne();
    return absl::OkStatus();
  }

  absl::Status Take(uint32_t index) {
    Worker& worker = workers_[index];
    auto frame = worker.process->Receive();
    if (absl::IsCancelled(frame.status())) return frame.status();
    if (!frame.ok()) return TakeDeath(index);
    if (!worker.ready) {
      if (!frame->empty()) return absl::FailedPreconditionError(*frame);
      worker.ready = true;
      return absl::OkStatus();
    }
    auto result = DecodeResult(*frame);
    if (!result.ok()) return result.status();
    worker.playing.reset();
    worker.deaths_in_a_row = 0;
    report_.counts.Add(result->counts);
    if (result->number < report_.hits.size())
      report_.hits[result->number] = static_cast<uint32_t>(result->counts.hits);
    report_.unanswered_at_end =
        result->counts.recomputed > 0 ? report_.unanswered_at_end + result->counts.requests : 0;
    report_.latency.Add(result->latency_us);
    if (options_.on_progress) options_.on_progress(result->counts.chunks);
    return absl::OkStatus();
  }

  absl::Status TakeDeath(uint32_t index) {
    Worker& worker = workers_[index];
    const bool killed = worker.killed;
    WorkerFailure failure{
        .worker = index, .pid = worker.process->pid(), .reason = {}, .request = {}};
    if (worker.playing.has_value()) {
      failure.request = schedule_[*worker.playing].request;
      worker.playing.reset();
      ++report_.lost;
    }
    failure.reason = worker.process->HowItEnded();
    // A signal for all of a terminal's programs ends the workers as well.
    if (absl::Status status = cli::CheckInterrupted(); !status.ok()) return status;
    worker.ready = false;
    worker.process.reset();
    if (!killed) {
      report_.failures.push_back(std::move(failure));
      if (++worker.deaths_in_a_row >= kDeathsInARowMax) {
        HandOver(worker);
        return absl::OkStatus();
      }
    }
    return StartWorker(index);
  }

  // Gives what a worker has left to another one.
  void HandOver(Worker& from) {
    for (Worker& to : workers_) {
      if (to.process == nullptr) continue;
      std::vector<uint32_t> plays;
      const auto left = [](Worker& worker) {
        return worker.plays.begin() + static_cast<std::ptrdiff_t>(worker.next);
      };
      std::merge(left(from), from.plays.end(), left(to), to.plays.end(), std::back_inserter(plays));
      to.plays.erase(left(to), to.plays.end());
      to.plays.insert(to.plays.end(), plays.begin(), plays.end());
      from.plays.erase(left(from), from.plays.end());
      return;
    }
  }

  void PlanKill() {
    if (options_.kill_every <= absl::ZeroDuration()) return;
    kill_s_ = NowSeconds() + 2 * rng_.Unit() * absl::ToDoubleSeconds(options_.kill_every);
  }

  void KillOne() {
    Worker& worker = workers_[rng_.Below(workers_.size())];
    if (worker.process != nullptr && worker.ready && !worker.killed) {
      worker.killed = true;
      worker.process->Kill();
      ++report_.kills;
    }
    PlanKill();
  }

  static constexpr double kNever = 1e18;

  const sim::Trace& trace_;
  const std::vector<sim::Play>& schedule_;
  const ConductorOptions& options_;
  Rng rng_;
  std::vector<Worker> workers_;
  ReplayReport report_;
  double begin_s_ = 0;
  // What all decisions of one round go by. Were the time up for a later one only, the round would
  // send nobody anything and then wait for an answer.
  double round_s_ = 0;
  double repeat_s_ = 0;        // when the trace was begun last
  double repeat_trace_s_ = 0;  // how far in the trace that is
  double kill_s_ = kNever;
};

}  // namespace

absl::StatusOr<ReplayReport> Conduct(const sim::Trace& trace,
                                     const std::vector<sim::Play>& schedule,
                                     const ConductorOptions& options) {
  return Conductor(trace, schedule, options).Run();
}

}  // namespace kvtier::replay
