// Plays a schedule from several worker processes and adds up what became of it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/replay/latency_histogram.h"
#include "client/cli/replay/play_message.h"
#include "sim/schedule.h"
#include "sim/trace.h"

namespace kvtier::replay {

struct ConductorOptions {
  uint32_t workers = 1;
  // Command line of worker `i`.
  std::function<std::vector<std::string>(uint32_t)> worker_command{};
  double speed = 0;             // the trace's seconds in one; 0: do not wait at all
  absl::Duration duration{};    // repeat the trace for so long; zero: play it once
  absl::Duration kill_every{};  // kill a random worker about so often; zero: never
  uint64_t seed = 0;            // of the killing
  // Seconds of a clock that does not go back; empty: the machine's.
  std::function<double()> now_s{};
  std::function<void(uint64_t)> on_progress{};  // chunks of a request that was played
};

// A worker that died by itself.
struct WorkerFailure {
  uint32_t worker = 0;
  pid_t pid = 0;
  std::string reason;
  std::optional<uint32_t> request;  // that it was playing
};

struct ReplayReport {
  PlayCounts counts{};
  LatencyHistogram latency{};
  double seconds = 0;
  double trace_seconds = 0;  // of what was played, in the trace's time
  uint64_t repeats = 0;      // how often the trace was begun
  uint64_t kills = 0;
  uint64_t lost = 0;      // requests that workers were playing when they died
  uint64_t unplayed = 0;  // requests that were left when no worker could be started any more
  uint64_t unanswered_at_end = 0;  // requests that were played after the last one with an answer
  std::vector<WorkerFailure> failures{};
  bool interrupted = false;  // by a signal: this is what was played before
  // Chunks that were hit, by place in the schedule, when it was played last.
  std::vector<std::optional<uint32_t>> hits{};
};

// Blocks. A worker that dies is started again; the request that it was playing is lost. One that
// dies kDeathsInARowMax times without finishing a request is given up, and another one takes what
// it had left. Errors: what the daemon has against the workers at the start; CANCELLED: a signal
// came before any request was played. All workers have ended when it returns.
absl::StatusOr<ReplayReport> Conduct(const sim::Trace& trace,
                                     const std::vector<sim::Play>& schedule,
                                     const ConductorOptions& options);
inline constexpr uint32_t kDeathsInARowMax = 3;

}  // namespace kvtier::replay
