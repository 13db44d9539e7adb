// `kvtier replay`, and the workers that it starts.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/admin_client.h"
#include "client/cli/command.h"
#include "client/cli/interrupt.h"
#include "client/cli/option_values.h"
#include "client/cli/output_file.h"
#include "client/cli/progress.h"
#include "client/cli/replay/conductor.h"
#include "client/cli/replay/worker_process.h"
#include "client/cli/text_table.h"
#include "client/daemon_channel.h"
#include "sim/replay_order.h"
#include "sim/schedule.h"
#include "sim/trace_reader.h"

namespace kvtier::cli {
namespace {

constexpr const char* kWorkerCommand = "replay-worker";
constexpr double kSpeedMin = 0.001;
constexpr double kSpeedMax = 1e6;
constexpr uint64_t kWorkersMax = 256;
constexpr uint64_t kReplayChunkBytesMax = 1 << 30;
// For how long the daemon does nothing in the background once it has settled: longer than any
// request takes.
constexpr uint64_t kHoldMs = 60'000;
constexpr absl::Duration kSettleTimeout = absl::Seconds(40);

struct ReplayOptions {
  CommonOptions common;
  std::string trace;
  uint64_t workers = 1;
  uint64_t sessions = 0;  // 0: as many as workers
  double speed = 1;       // 0: max
  uint64_t bytes_per_token = 128;
  uint64_t block_tokens = 512;
  uint64_t limit = sim::kRequestsMax;
  uint64_t seed = 0;
  absl::Duration duration;
  absl::Duration kill_every;
  bool progress = false;
  bool settle = false;
  std::string hits;  // file; empty: none
};

struct WorkerOptions {
  CommonOptions common;
  std::string name;
  bool settle = false;
  uint64_t block_tokens = 512;
  uint64_t bytes_per_token = 128;
};

// "max", or a number.
double ParseSpeed(const std::string& text) {
  if (text == "max") return 0;
  double speed = 0;
  if (!absl::SimpleAtod(text, &speed) || !(speed >= kSpeedMin && speed <= kSpeedMax)) {
    throw CLI::ValidationError(
        absl::StrFormat("--speed is \"%s\"; max or a number from %g to %.0f is needed", text,
                        kSpeedMin, kSpeedMax));
  }
  return speed;
}

Json FailuresJson(const std::vector<replay::WorkerFailure>& failures) {
  Json json = Json::array();
  for (const auto& failure : failures) {
    json.push_back({{"worker", failure.worker},
                    {"pid", failure.pid},
                    {"reason", failure.reason},
                    {"request", failure.request ? Json(*failure.request) : Json(nullptr)}});
  }
  return json;
}

Json TransportJson(const replay::PlayCounts& counts) {
  return {{"shared_memory", counts.read_in_place}, {"stream", counts.read_by_stream}};
}

double HitRate(const replay::PlayCounts& counts) {
  return counts.chunks == 0 ? 0
                            : static_cast<double>(counts.hits) / static_cast<double>(counts.chunks);
}

Json ReportJson(const ReplayOptions& options, const replay::ReplayReport& report) {
  const replay::PlayCounts& counts = report.counts;
  return {{"trace", options.trace},
          {"workers", options.workers},
          {"requests", counts.requests},
          {"chunks", counts.chunks},
          {"hits", counts.hits},
          {"hit_rate", HitRate(counts)},
          {"hits_by_tier", counts.hits_by_tier},
          {"bytes_by_link", counts.bytes_by_link},
          {"transport", TransportJson(counts)},
          {"verified", counts.verified},
          {"corrupt", counts.corrupt},
          {"damaged", counts.damaged},
          {"stored", counts.stored},
          {"already_stored", counts.already_stored},
          {"refused", counts.refused},
          {"recomputed", counts.recomputed},
          {"latency_us",
           {{"p50", report.latency.Quantile(0.5)},
            {"p99", report.latency.Quantile(0.99)},
            {"max", report.latency.max_us()}}},
          {"seconds", report.seconds},
          {"trace_seconds", report.trace_seconds},
          {"repeats", report.repeats},
          {"lost", report.lost},
          {"unplayed", report.unplayed},
          {"kills", report.kills},
          {"errors_by_code", counts.errors_by_code},
          {"first_errors", counts.first_errors},
          {"failures", FailuresJson(report.failures)}};
}

std::string MapText(const std::map<std::string, uint64_t>& map, bool bytes) {
  std::string text;
  for (const auto& [name, number] : map) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", name, " ",
                    bytes ? SizeText(number) : absl::StrCat(number));
  }
  return text.empty() ? "none" : text;
}

void PrintReport(const ReplayOptions& options, const replay::ReplayReport& report) {
  const replay::PlayCounts& counts = report.counts;
  TextTable table({"replay", options.trace});
  const auto row = [&](const char* name, std::string text) {
    table.AddRow({name, std::move(text)});
  };
  row("requests",
      absl::StrFormat("%d by %d workers in %.1f s (%.1f s of the trace)", counts.requests,
                      options.workers, report.seconds, report.trace_seconds));
  row("chunks", absl::StrFormat("%d, of them %d hits (%.1f %%)", counts.chunks, counts.hits,
                                100 * HitRate(counts)));
  row("hits by tier", MapText(counts.hits_by_tier, false));
  row("bytes by link", MapText(counts.bytes_by_link, true));
  row("reads", absl::StrFormat("%d by shared memory, %d by stream", counts.read_in_place,
                               counts.read_by_stream));
  row("blocks", absl::StrFormat("%d verified, %d corrupt, %d damaged", counts.verified,
                                counts.corrupt, counts.damaged));
  row("chunks not hit", absl::StrFormat("%d stored, %d already stored, %d refused", counts.stored,
                                        counts.already_stored, counts.refused));
  row("recomputed", absl::StrFormat("%d requests without an answer", counts.recomputed));
  row("latency", absl::StrFormat("p50 %d us, p99 %d us, max %d us", report.latency.Quantile(0.5),
                                 report.latency.Quantile(0.99), report.latency.max_us()));
  row("errors by code", MapText(counts.errors_by_code, false));
  for (const auto& [code, message] : counts.first_errors)
    row("first error", absl::StrCat(code, ": ", message));
  if (options.kill_every > absl::ZeroDuration())
    row("killed", absl::StrFormat("%d workers", report.kills));
  std::fputs(table.Text().c_str(), stdout);
}

// Why nothing answered the last requests, if it has not come back since.
absl::Status CheckAnswered(const ReplayOptions& options, const replay::ReplayReport& report) {
  if (report.unanswered_at_end == 0) return absl::OkStatus();
  const absl::Status reason = ConnectClient(options.common.socket, "kvtier replay").status();
  if (reason.ok()) return absl::OkStatus();
  const uint64_t requests = report.counts.requests;
  absl::Status status(reason.code(),
                      absl::StrCat("no answer to the last ", report.unanswered_at_end, " of ",
                                   requests, " requests: ", reason.message()));
  // A daemon that went away had answered: exit code 1.
  const bool never = report.unanswered_at_end == requests;
  return never && IsNoDaemonError(reason) ? NoDaemonError(std::move(status)) : status;
}

// What makes a replay that came to its end a failure.
absl::Status Verdict(const ReplayOptions& options, const replay::ReplayReport& report) {
  if (report.counts.corrupt > 0)
    return absl::DataLossError(absl::StrCat(report.counts.corrupt, " blocks had wrong bytes"));
  if (report.interrupted) return CheckInterrupted();
  if (report.failures.empty()) return CheckAnswered(options, report);
  const replay::WorkerFailure& first = report.failures.front();
  return absl::AbortedError(absl::StrCat(
      "workers died ", report.failures.size(), " times, first worker ", first.worker, " (pid ",
      first.pid, ") of ", first.reason, "; ", report.lost, " requests were lost",
      report.unplayed == 0 ? "" : absl::StrCat(", ", report.unplayed, " not played")));
}

std::vector<std::string> WorkerCommand(const ReplayOptions& options, uint32_t block_tokens,
                                       uint32_t worker) {
  std::vector<std::string> command = {"kvtier",
                                      kWorkerCommand,
                                      "--socket",
                                      options.common.socket,
                                      "--name",
                                      absl::StrCat("kvtier replay ", worker),
                                      "--block-tokens",
                                      absl::StrCat(block_tokens),
                                      "--bytes-per-token",
                                      absl::StrCat(options.bytes_per_token)};
  if (options.settle) command.emplace_back("--settle");
  return command;
}

// Options that do not go together.
absl::Status CheckSettle(const ReplayOptions& options) {
  if (options.settle && options.workers != 1)
    return UsageError("--settle is for one worker: others would find the daemon busy");
  if (!options.hits.empty() && options.duration > absl::ZeroDuration())
    return UsageError("--hits is for a trace that is played once: not with --duration");
  return absl::OkStatus();
}

absl::Status WriteHits(const ReplayOptions& options, const sim::Trace& trace,
                       const std::vector<sim::Play>& schedule, const replay::ReplayReport& report) {
  std::string lines;
  for (size_t i = 0; i < schedule.size(); ++i) {
    const uint32_t chunks = trace.requests[schedule[i].request].block_count;
    absl::StrAppend(&lines, report.hits[i] ? sim::HitLine(chunks, *report.hits[i]) : "-\n");
  }
  return WriteFile(options.hits, lines);
}

absl::Status Settle(AdminClient& admin, uint64_t hold_ms) {
  v1::SettleRequest request;
  request.set_hold_ms(hold_ms);
  v1::SettleReply reply;
  return admin.Call(&v1::Admin::Stub::Settle, request, reply, kSettleTimeout);
}

absl::Status RunWorkerCommand(const WorkerOptions& options) {
  replay::WorkerOptions worker{
      .socket = options.common.socket,
      .name = options.name,
      .player = {.block_tokens = static_cast<uint32_t>(options.block_tokens),
                 .bytes_per_token = options.bytes_per_token}};
  if (!options.settle) return replay::RunWorker(worker);
  auto admin = AdminClient::Connect(options.common.socket);
  if (!admin.ok()) return admin.status();
  worker.settle = [&admin] { return Settle(*admin, kHoldMs); };
  return replay::RunWorker(worker);
}

// Why chunks of so many bytes cannot be, in the words of the options.
std::string TooLarge(const ReplayOptions& options, uint32_t block_tokens, uint64_t chunk_bytes_max,
                     absl::string_view limit) {
  const uint64_t max = chunk_bytes_max / block_tokens;
  return absl::StrCat("--bytes-per-token is ", SizeText(options.bytes_per_token),
                      ", so that a chunk of ", block_tokens, " tokens has ",
                      SizeText(block_tokens * options.bytes_per_token), "; ", limit, " is ",
                      SizeText(chunk_bytes_max), ": ",
                      max == 0 ? "blocks of fewer tokens are needed"
                               : absl::StrCat("1 to ", max, " bytes a token are allowed"));
}

// What the daemon has against the workers, if it is the size of their chunks.
absl::Status ExplainRefusal(const ReplayOptions& options, uint32_t block_tokens,
                            absl::Status refused) {
  if (absl::IsCancelled(refused)) return refused;
  auto admin = AdminClient::Connect(options.common.socket);
  v1::PoolsReply reply;
  if (!admin.ok() || !admin->Call(&v1::Admin::Stub::Pools, v1::PoolsRequest(), reply).ok())
    return refused;
  for (const v1::PoolsReply::Pool& pool : reply.pools()) {
    if (block_tokens * options.bytes_per_token > pool.segment_bytes()) {
      return absl::Status(refused.code(), TooLarge(options, block_tokens, pool.segment_bytes(),
                                                   "the daemon's limit (a segment)"));
    }
  }
  return refused;
}

// "3 of 8 requests", "3 requests" where the total is not known, which is 0 then.
std::string CountText(uint64_t count, uint64_t total, const char* what) {
  return total == 0 ? absl::StrCat(count, " ", what)
                    : absl::StrCat(count, " of ", total, " ", what);
}

absl::Status RunReplay(const ReplayOptions& options) {
  if (absl::Status status = CheckSettle(options); !status.ok()) return status;
  auto trace = sim::ReadTrace(
      options.trace,
      {.block_tokens = static_cast<uint32_t>(options.block_tokens), .requests_max = options.limit});
  if (!trace.ok()) return trace.status();
  const uint64_t chunk_bytes = trace->block_tokens * options.bytes_per_token;
  if (chunk_bytes > kReplayChunkBytesMax) {
    return UsageError(TooLarge(options, trace->block_tokens, kReplayChunkBytesMax, "the limit"));
  }
  const std::vector<sim::Play> schedule =
      sim::MakeSchedule(*trace, {.workers = static_cast<uint32_t>(options.workers),
                                 .sessions = static_cast<uint32_t>(
                                     options.sessions == 0 ? options.workers : options.sessions),
                                 .seed = options.seed,
                                 .requests_max = options.limit});
  if (absl::Status listens = CheckDaemonListens(options.common.socket); !listens.ok())
    return absl::IsUnavailable(listens) ? NoDaemonError(listens) : listens;
  uint64_t requests = 0, chunks = 0;  // 0: not known, as the trace is repeated
  if (options.duration <= absl::ZeroDuration()) {
    requests = schedule.size();
    for (const sim::Play& play : schedule) chunks += trace->requests[play.request].block_count;
  }
  CatchSignals();  // from here on there are workers to end
  const absl::Cleanup let_go = [&options] {
    if (!options.settle) return;
    // A daemon that cannot be asked holds nothing, or not for long.
    auto admin = AdminClient::Connect(options.common.socket);
    if (admin.ok()) Settle(*admin, 0).IgnoreError();
  };
  Progress progress("replay", chunks * chunk_bytes, options.progress);
  uint64_t requests_played = 0, chunks_played = 0;
  const replay::ConductorOptions conductor{
      .workers = static_cast<uint32_t>(options.workers),
      .worker_command =
          [&](uint32_t worker) { return WorkerCommand(options, trace->block_tokens, worker); },
      .speed = options.speed,
      .duration = options.duration,
      .kill_every = options.kill_every,
      .seed = options.seed,
      .on_progress =
          [&](uint64_t played) {
            chunks_played += played;
            progress.Add(played * chunk_bytes,
                         absl::StrCat(CountText(++requests_played, requests, "requests"), ", ",
                                      CountText(chunks_played, chunks, "chunks")));
          }};
  auto report = replay::Conduct(*trace, schedule, conductor);
  if (!report.ok()) return ExplainRefusal(options, trace->block_tokens, report.status());
  if (!options.hits.empty()) {
    if (absl::Status status = WriteHits(options, *trace, schedule, *report); !status.ok())
      return status;
  }
  if (options.common.json) {
    PrintJson(ReportJson(options, *report));
  } else {
    PrintReport(options, *report);
  }
  return Verdict(options, *report);
}

void AddWorkerCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<WorkerOptions>();
  CLI::App* command = app.add_subcommand(kWorkerCommand, "A worker of a replay");
  command->group("");  // not shown: `replay` starts it
  AddCommonOptions(*command, options->common);
  command->add_option("--name", options->name)->required();
  command->add_option("--block-tokens", options->block_tokens)
      ->required()
      ->check(CLI::Range(1, static_cast<int>(sim::kBlockTokensMax)));
  command->add_option("--bytes-per-token", options->bytes_per_token)
      ->required()
      ->check(CLI::Range(1, static_cast<int>(kReplayChunkBytesMax)));
  command->add_flag("--settle", options->settle);
  SetAction(*command, exit_code, [options] { return RunWorkerCommand(*options); });
}

}  // namespace

void AddReplayCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<ReplayOptions>();
  CLI::App* command =
      app.add_subcommand("replay", "Plays a trace of requests from several worker processes");
  AddCommonOptions(*command, options->common);
  command
      ->add_option("--trace", options->trace,
                   "Mooncake JSONL, a coding agent's session as JSON, or a directory of such "
                   "sessions (.json)")
      ->required()
      ->type_name("FILE");
  AddCountOption(*command, "--workers", options->workers, 1, kWorkersMax, "Client processes");
  AddCountOption(*command, "--sessions", options->sessions, 0, 65'536,
                 "Sessions that run at a time, of a trace of sessions; 0: as many as workers");
  command
      ->add_option_function<std::string>(
          "--speed", [options](const std::string& text) { options->speed = ParseSpeed(text); },
          "How much faster than the trace's time, 0.001 to 1000000, or max: without waiting "
          "(default 1)")
      ->type_name("X");
  AddSizeOption(*command, "--bytes-per-token", options->bytes_per_token, 1, 1 << 20,
                "Bytes of KV for a token");
  AddCountOption(*command, "--block-tokens", options->block_tokens, 1, sim::kBlockTokensMax,
                 "Tokens of a block, of JSONL; sessions say it themselves");
  AddCountOption(*command, "--limit", options->limit, 1, sim::kRequestsMax,
                 "Play the first so many requests");
  AddCountOption(*command, "--seed", options->seed, 0, ~uint64_t{0},
                 "Of the order and the pauses of sessions, and of the killing");
  AddTimeOption(*command, "--duration", options->duration, absl::Milliseconds(1),
                absl::Hours(24 * 30), "Repeat the trace for so long (default: play it once)");
  AddTimeOption(*command, "--kill-every", options->kill_every, absl::Milliseconds(10),
                absl::Hours(24),
                "Kill a random worker about so often, and start it again (default: never)");
  command
      ->add_option("--hits", options->hits,
                   "Written: a line a request, with a 1 for each chunk of its prompt that was read "
                   "and a 0 for\neach that was not")
      ->type_name("FILE");
  command->add_flag("--settle", options->settle,
                    "Between requests, wait until the daemon has done what it does in the "
                    "background, and have it do none\nduring them: hits are those of kvtier sim "
                    "--settle. Needs a tenant with admin: true");
  command->add_flag("--progress", options->progress,
                    "Show progress also where stderr is no terminal");
  command->footer(
      "Each block of a prompt is a chunk, its key made from the trace's ids, its bytes from the "
      "key. A request looks its\n"
      "chunks up, reads and verifies what is there, and stores the rest; a chunk for which there "
      "is no room stays private.\n"
      "Requests of one conversation, or session, are played in order by one worker.\n"
      "Exit code 1: a block had wrong bytes, a worker died (what it had left is played "
      "nevertheless), or the daemon\n"
      "went away and did not come back.\n"
      "Examples: kvtier replay --trace conversation.jsonl --workers 4 --speed max --json\n"
      "          kvtier replay --trace sessions/ --workers 4 --sessions 8 --speed 60\n"
      "          kvtier trace generate --kind chat --requests 1000 --output chat.jsonl");
  SetAction(*command, exit_code, [options] { return RunReplay(*options); });
  AddWorkerCommand(app, exit_code);
}

}  // namespace kvtier::cli
