#include "tests/fault/steered_workers.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tiering/base/status_macros.h"

namespace kvtier::test_support {
namespace {

size_t Above(size_t value, size_t floor) { return value > floor ? value - floor : 0; }

}  // namespace

bool Standing::has_reservation() const {
  return count > 0 && (point == "reserved" || point == "half_stored" || point == "before_commit" ||
                       point == "committed_in_one_rank");
}

SteeredWorkers::SteeredWorkers(Options options)
    : options_(std::move(options)), rng_(options_.seed), workers_(options_.workers) {
  for (size_t i = 0; i < options_.chains; ++i) {
    SharedChain chain;
    chain.chunks = 1 + rng_.Below(options_.chunks_max);
    chain.tail_tokens = static_cast<uint32_t>(rng_.Below(16));
    chain.keys = ChainKeys(options_.model, i, chain.chunks, chain.tail_tokens);
    chains_.push_back(std::move(chain));
  }
}

bool SteeredWorkers::InUse(size_t chain, size_t except) const {
  for (size_t i = 0; i < workers_.size(); ++i) {
    const Standing& at = workers_[i].standing;
    if (i != except && !at.point.empty() && at.chain == chain) return true;
  }
  return false;
}

bool SteeredWorkers::SharesChain(size_t worker) const {
  return InUse(workers_[worker].standing.chain, worker);
}

absl::StatusOr<std::string> SteeredWorkers::Line(Worker& worker) {
  KVTIER_ASSIGN_OR_RETURN(std::string line, worker.process->ReadLine(kSoon));
  if (line.rfind("error", 0) == 0) {
    return absl::InternalError(absl::StrCat("worker ", worker.process->pid(), " on chain ",
                                            worker.standing.chain, " after ", worker.standing.point,
                                            ": ", line));
  }
  return line;
}

absl::Status SteeredWorkers::Start(size_t index) {
  Worker& worker = workers_[index];
  ChildProcess::Options options;
  options.arguments = {HelperPath("kill_worker"), options_.socket,
                       options_.in_place ? "shared_memory" : "stream"};
  KVTIER_ASSIGN_OR_RETURN(worker.process, ChildProcess::Start(options));
  worker.standing = Standing();
  KVTIER_ASSIGN_OR_RETURN(const std::string line, Line(worker));
  return line == "ready" ? absl::OkStatus() : absl::InternalError(line);
}

absl::Status SteeredWorkers::CheckExisting(const Standing& standing, size_t existing) {
  existing_chunks_ += existing;
  if (existing <= standing.existing_max && (options_.evicts || existing >= standing.existing_min))
    return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("commit of chunks ", standing.first, " to ", standing.first + standing.count - 1,
                   " of chain ", standing.chain, ": ", existing, " existed already; ",
                   standing.existing_min, " to ", standing.existing_max, " are possible"));
}

absl::Status SteeredWorkers::Follow(Worker& worker) {
  KVTIER_ASSIGN_OR_RETURN(const std::string line, Line(worker));
  std::istringstream words(line);
  Standing& at = worker.standing;
  SharedChain& chain = chains_[at.chain];
  words >> at.point;
  if (at.point == "reserved") words >> at.first >> at.count;
  if (at.point == "leased") words >> at.leased;
  if (at.point == "after_commit") {
    size_t existing = 0;
    words >> existing;
    chain.known = std::max(chain.known, at.first + at.count);
    KVTIER_RETURN_IF_ERROR(CheckExisting(at, existing));
  }
  if (!words) return absl::InternalError(absl::StrCat("not a point: ", line));
  if (at.point == "done" || at.point == "refused") at = Standing();
  return absl::OkStatus();
}

absl::Status SteeredWorkers::GoOn(size_t index) {
  Standing& at = workers_[index].standing;
  SharedChain& chain = chains_[at.chain];
  if (at.point == (at.by_rank ? "committed_in_one_rank" : "before_commit")) {
    // Others with room for the same chunks may be told to commit before this one is done.
    size_t end = chain.possible;
    for (size_t i = 0; i < workers_.size(); ++i) {
      const Standing& other = workers_[i].standing;
      if (i != index && other.chain == at.chain && other.has_reservation())
        end = std::max(end, other.first + other.count);
    }
    at.existing_min = std::min(at.count, Above(chain.known, at.first));
    at.existing_max = std::min(at.count, Above(end, at.first));
    chain.possible = std::max(chain.possible, at.first + at.count);
  }
  return workers_[index].process->WriteLine("go");
}

absl::Status SteeredWorkers::Finish(const std::vector<size_t>& workers) {
  for (;;) {
    std::vector<size_t> busy;
    for (const size_t worker : workers) {
      if (!workers_[worker].standing.point.empty()) busy.push_back(worker);
    }
    if (busy.empty()) return absl::OkStatus();
    for (const size_t worker : busy) KVTIER_RETURN_IF_ERROR(GoOn(worker));
    for (const size_t worker : busy) KVTIER_RETURN_IF_ERROR(Follow(workers_[worker]));
  }
}

absl::StatusOr<size_t> SteeredWorkers::ChooseChain(size_t worker, bool reserves) {
  if (rng_.Below(2) == 0) {
    const size_t start = rng_.Below(workers_.size());
    for (size_t i = 0; i < workers_.size(); ++i) {
      const size_t other = (start + i) % workers_.size();
      const Standing& at = workers_[other].standing;
      if (other != worker && at.has_reservation()) return at.chain;
    }
  }
  for (;;) {
    const size_t index = rng_.Below(chains_.size());
    SharedChain& chain = chains_[index];
    if (!reserves || chain.possible < chain.chunks) return index;
    // All of it is stored, or was and may have been dropped.
    if (options_.evicts && rng_.Below(2) == 0) return index;
    if (InUse(index, worker)) continue;
    KVTIER_RETURN_IF_ERROR(options_.client->Forget(options_.model, {chain.keys.front()}).status());
    chain.known = chain.possible = 0;
    return index;
  }
}

absl::Status SteeredWorkers::BringTo(size_t index, const std::string& point) {
  constexpr int kTriesMax = 1000;
  Worker& worker = workers_[index];
  Standing& at = worker.standing;
  const bool reserves = point == "reserved" || point == "half_stored" || point == "before_commit" ||
                        point == "committed_in_one_rank" || point == "after_commit";
  KVTIER_RETURN_IF_ERROR(Finish({index}));
  for (int tries = 0; tries < kTriesMax; ++tries) {
    KVTIER_ASSIGN_OR_RETURN(at.chain, ChooseChain(index, reserves));
    const SharedChain& chain = chains_[at.chain];
    // Mostly not all of it, so that others can extend it.
    const size_t stored = chain.possible == chain.chunks ? 0 : chain.possible;
    const size_t chunks = stored + 1 + rng_.Below(chain.chunks - stored);
    at.by_rank = point == "committed_in_one_rank";
    KVTIER_RETURN_IF_ERROR(worker.process->WriteLine(
        absl::StrCat(at.chain, " ", chunks, " ", chunks == chain.chunks ? chain.tail_tokens : 0,
                     at.by_rank ? " by_rank" : "")));
    KVTIER_RETURN_IF_ERROR(Follow(worker));
    while (!at.point.empty()) {
      const bool there = at.point == point;
      if (there && (at.holds_something() || point == "after_commit")) return absl::OkStatus();
      // Past it, or nothing is held there.
      if (there) break;
      KVTIER_RETURN_IF_ERROR(GoOn(index));
      KVTIER_RETURN_IF_ERROR(Follow(worker));
    }
    KVTIER_RETURN_IF_ERROR(Finish({index}));
  }
  return absl::DeadlineExceededError(absl::StrCat("never came to ", point));
}

}  // namespace kvtier::test_support
