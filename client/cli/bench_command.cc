// `kvtier bench`: figures of the parts that a user waits for, each beside the best that this
// machine could do.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bench/bound_figures.h"
#include "bench/bound_problem.h"
#include "bench/bound_rows.h"
#include "bench/copy_figures.h"
#include "bench/echo_server.h"
#include "bench/engine_figures.h"
#include "bench/in_place_figures.h"
#include "bench/index_figures.h"
#include "bench/rpc_figures.h"
#include "bench/sim_figures.h"
#include "client/cli/admin_client.h"
#include "client/cli/child_process.h"
#include "client/cli/command.h"
#include "client/cli/interrupt.h"
#include "client/cli/option_values.h"
#include "client/daemon_channel.h"

namespace kvtier::cli {
namespace {

using bench::Figure;

constexpr absl::Duration kStartTimeout = absl::Seconds(30);

struct BenchOptions {
  CommonOptions common;
  bool socket_given = false;
  bool spawn = false;
  bool quick = false;
  uint64_t blocks = 10'000'000;
  uint64_t planes = 1;
  bool shared = false;
  std::vector<std::string> rows;
  uint64_t seeds = 3;
  std::string echo_socket;
  int ready_fd = -1;
};

absl::Status Print(const BenchOptions& options,
                   const absl::StatusOr<std::vector<Figure>>& figures) {
  if (!figures.ok()) return figures.status();
  if (options.common.json) {
    std::puts(bench::FiguresToJson(*figures).c_str());
    return absl::OkStatus();
  }
  std::fputs(bench::FiguresToText(*figures).c_str(), stdout);
  return absl::OkStatus();
}

// A kvtierd of this build's own on a socket in `directory`, with small pools unless `settings` say
// otherwise.
absl::StatusOr<std::unique_ptr<ChildProcess>> SpawnDaemon(
    const std::string& programs, const std::string& directory,
    const std::vector<std::string>& settings = {}) {
  std::vector<std::string> arguments = {programs + "/kvtierd", "--socket",
                                        directory + "/kvtierd.sock", "--set", "log.level=warn"};
  for (const std::string& setting : settings) {
    arguments.insert(arguments.end(), {"--set", setting});
  }
  arguments.emplace_back("--ready-fd");
  return ChildProcess::StartReady(std::move(arguments), directory + "/kvtierd.log", kStartTimeout);
}

// The daemon to measure, if it is not there or not for this user, is to be missed by name.
absl::Status CheckDaemon(const std::string& socket) {
  auto admin = AdminClient::Connect(socket);
  if (!admin.ok()) return admin.status();
  v1::StatusRequest request;
  *request.mutable_version() = ProtocolVersion();
  v1::StatusReply reply;
  return admin->Call(&v1::Admin::Stub::Status, request, reply);
}

absl::Status RunRpc(const BenchOptions& options) {
  CatchSignals();  // from here on there are a directory, children and chunks to remove
  auto directory = ScratchDirectory::Create();
  if (!directory.ok()) return directory.status();
  auto programs = ProgramDirectory();
  if (!programs.ok()) return programs.status();
  bench::RpcFigureOptions figure;
  figure.socket = options.common.socket;
  figure.echo_socket = (*directory)->path() + "/echo.sock";
  figure.check = &CheckInterrupted;
  if (options.quick) {
    figure.calls_per_round = 20;
    figure.rounds = 5;
  }
  // Children first: they are forked, and gRPC starts threads.
  std::unique_ptr<ChildProcess> daemon;
  if (options.spawn || (!options.socket_given && !CheckDaemonListens(options.common.socket).ok())) {
    auto spawned = SpawnDaemon(*programs, (*directory)->path());
    if (absl::Status interrupted = CheckInterrupted(); !interrupted.ok()) return interrupted;
    if (!spawned.ok()) return spawned.status();
    daemon = *std::move(spawned);
    figure.socket = (*directory)->path() + "/kvtierd.sock";
  }
  auto echo = ChildProcess::StartReady(
      {*programs + "/kvtier", "bench", "echo", "--echo-socket", figure.echo_socket, "--ready-fd"},
      (*directory)->path() + "/echo.log", kStartTimeout);
  if (absl::Status interrupted = CheckInterrupted(); !interrupted.ok()) return interrupted;
  if (!echo.ok()) return echo.status();
  if (absl::Status status = CheckDaemon(figure.socket); !status.ok()) return status;
  return Print(options, bench::RpcFigures(figure));
}

absl::StatusOr<std::map<std::string, uint64_t>> CountersOf(const std::string& socket) {
  auto admin = AdminClient::Connect(socket);
  if (!admin.ok()) return admin.status();
  v1::StatusRequest request;
  *request.mutable_version() = ProtocolVersion();
  v1::StatusReply reply;
  absl::Status status = admin->Call(&v1::Admin::Stub::Status, request, reply);
  if (!status.ok()) return status;
  return std::map<std::string, uint64_t>(reply.counters().begin(), reply.counters().end());
}

// In and out of a daemon's memory, with a daemon of its own: what another one serves would be
// counted.
absl::StatusOr<std::vector<Figure>> InPlaceFigures(bool quick) {
  auto directory = ScratchDirectory::Create();
  if (!directory.ok()) return directory.status();
  auto programs = ProgramDirectory();
  if (!programs.ok()) return programs.status();
  bench::InPlaceFigureOptions figure;
  figure.check = &CheckInterrupted;
  if (quick) {
    figure.region_bytes = MiB(32);
    figure.blocks_per_run = 16;
    figure.runs = 11;
  }
  const std::string pool_bytes = absl::StrCat(figure.region_bytes.count() + MiB(256).count());
  // One pool, so that nothing is moved, and nothing hashed but by the client.
  auto daemon = SpawnDaemon(
      *programs, (*directory)->path(),
      {"memory.huge_pages=false", "limits.scrub_bytes_per_second=0",
       absl::StrCat("limits.reserved_bytes_max=", pool_bytes),
       absl::StrCat("pools=[{name: 'dram:0', kind: dram, budget_bytes: ", pool_bytes, "}]")});
  if (absl::Status interrupted = CheckInterrupted(); !interrupted.ok()) return interrupted;
  if (!daemon.ok()) return daemon.status();
  figure.socket = (*directory)->path() + "/kvtierd.sock";
  figure.counters = [&figure] { return CountersOf(figure.socket); };
  return bench::InPlaceFigures(figure);
}

absl::Status RunCopy(const BenchOptions& options) {
  CatchSignals();  // from here on there are a directory and a child to remove
  bench::CopyFigureOptions figure;
  if (options.quick) {
    figure.region_bytes = MiB(32);
    figure.blocks_per_run = 16;
    figure.runs = 11;
  }
  absl::StatusOr<std::vector<Figure>> figures = bench::CopyFigures(figure);
  if (!figures.ok()) return figures.status();
  const auto in_place = InPlaceFigures(options.quick);
  if (!in_place.ok()) return in_place.status();
  figures->insert(figures->end(), in_place->begin(), in_place->end());
  return Print(options, figures);
}

absl::Status RunEngine(const BenchOptions& options) {
  if (options.blocks % options.planes != 0) {
    return UsageError(absl::StrCat("--blocks is ", options.blocks, "; a multiple of --planes, ",
                                   options.planes, ", is needed"));
  }
  bench::EngineFigureOptions figure;
  figure.blocks = options.blocks;
  figure.planes = static_cast<uint32_t>(options.planes);
  figure.shared = options.shared;
  if (options.quick) {
    figure.blocks = std::min<uint64_t>(options.blocks, 100'000 / options.planes * options.planes);
    figure.batches = 50;
  }
  return Print(options, bench::EngineFigures(figure));
}

absl::Status RunIndex(const BenchOptions& options) {
  bench::IndexFigureOptions figure;
  if (options.quick) {
    figure.shapes = {{2'000, 32}, {20'000, 1}};
    figure.runs = 11;
  }
  return Print(options, bench::IndexFigures(figure));
}

absl::Status RunBoundRows(const BenchOptions& options) {
  CatchSignals();
  bench::BoundRowOptions rows;
  rows.seeds = options.seeds;
  rows.on_row = [](const bench::BoundRow& row) {
    std::fprintf(stderr, "%s, seed %d: gap %s, %.1f s\n", row.problem.name.c_str(),
                 static_cast<int>(row.seed), bench::GapText(row).c_str(), row.total_s);
  };
  rows.check = &CheckInterrupted;
  for (const std::string& name : options.rows) {
    if (name == "all") {
      rows.problems = bench::BoundProblems();
      break;
    }
    auto problem = bench::FindBoundProblem(name);
    if (!problem.ok()) return UsageError(std::string(problem.status().message()));
    rows.problems.push_back(*std::move(problem));
  }
  if (options.quick) {
    for (bench::BoundProblem& problem : rows.problems) {
      problem.blocks = problem.layers * 100;
      problem.steps = 20;
    }
  }
  const auto measured = bench::BoundRows(rows);
  if (!measured.ok()) return measured.status();
  std::fputs((options.common.json ? bench::BoundRowsToJson(*measured) + "\n"
                                  : bench::BoundRowsToText(*measured))
                 .c_str(),
             stdout);
  return absl::OkStatus();
}

absl::Status RunBound(const BenchOptions& options) {
  if (!options.rows.empty()) return RunBoundRows(options);
  bench::BoundFigureOptions figure;
  if (options.quick) {
    figure.blocks = 500;
    figure.runs = 5;
  }
  return Print(options, bench::BoundFigures(figure));
}

absl::Status RunSimulations(const BenchOptions& options) {
  bench::SimFigureOptions figure;
  if (options.quick) {
    figure.requests = 100;
    figure.steps = 3;
    figure.runs = 3;
  }
  return Print(options, bench::SimFigures(figure));
}

CLI::App* AddFigureCommand(CLI::App& bench, const char* name, const char* description,
                           BenchOptions& options) {
  CLI::App* command = bench.add_subcommand(name, description);
  AddCommonOptions(*command, options.common);
  command->add_flag("--quick", options.quick,
                    "Small sizes and few runs: shows that it works, not how fast");
  return command;
}

}  // namespace

void AddBenchCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* bench =
      app.add_subcommand("bench", "Measures parts of kvtier beside the best this machine could do");
  bench->require_subcommand(1);
  bench->footer(
      "Each figure has a ceiling measured in the same run, in turn with it, and the ratio of the "
      "two. Run on an idle\n"
      "machine. --json prints {\"figures\": [...]}; docs/cli.md lists the fields.");

  CLI::App* rpc = AddFigureCommand(
      *bench, "rpc", "Control calls: rpc_lookup_lease_256, rpc_lookup_lease_256_of_64_planes",
      *options);
  rpc->add_flag("--spawn", options->spawn,
                "Measure a kvtierd started for this (from beside this program); also where none "
                "runs and no --socket is given");
  rpc->footer(
      "rpc_lookup_lease_256: microseconds of one Lookup of 256 chunks of a model of one plane, "
      "with a "
      "lease, by a blocking\n"
      "client over the Unix socket; the Release is not timed. rpc_lookup_lease_256_of_64_planes: "
      "the same on a model of\n"
      "64 planes. Ceiling: a server of the same kind in a process of its own that answers the same "
      "messages and does\n"
      "nothing else. Wanted: ratio 1.5 or less.");
  SetAction(*rpc, exit_code, [options, rpc] {
    options->socket_given = rpc->count("--socket") > 0;
    return RunRpc(*options);
  });

  CLI::App* copy = AddFigureCommand(
      *bench, "copy",
      "Copies: copy_verified, copy_plain, put_in_place, get_in_place, get_in_place_unverified",
      *options);
  copy->footer(
      "copy_verified, copy_plain: GB/s of one core copying blocks of 256 KiB that are in no cache, "
      "with and without the\n"
      "checksum. Ceiling: the fastest of a few plain loops (memcpy, and non-temporal stores by "
      "SSE2, AVX2 and AVX-512)\n"
      "over other blocks of the same memory. Wanted: ratio 0.75 and 0.95 or more.\n"
      "put_in_place, get_in_place: the same of a client's Put and Get with a kvtierd started for "
      "this (from beside this\n"
      "program) over memory that they share; get_in_place_unverified: with verification off. The "
      "daemon copies nothing of\n"
      "it. Wanted: ratio 0.75, 0.75 and 0.95 or more. --socket has no effect.");
  SetAction(*copy, exit_code, [options] { return RunCopy(*options); });

  CLI::App* engine = AddFigureCommand(
      *bench, "engine",
      "The engine alone: engine_operation, engine_metadata_bytes_per_block, engine_report",
      *options);
  AddCountOption(*engine, "--blocks", options->blocks, 10'000, 100'000'000,
                 "Blocks to fill it with");
  AddCountOption(*engine, "--planes", options->planes, 1, 1024,
                 "Planes of a chunk; with 1, each block costs a row and an index entry");
  engine->add_flag("--shared", options->shared,
                   "With a client on shared memory: its index is kept too, and reports are taken");
  engine->footer(
      "engine_operation: nanoseconds of one engine call at --blocks blocks in two full pools "
      "without bytes, LRU policy:\n"
      "60 % lease and release of a random chunk, 20 % reserve and commit (which evicts), 10 % "
      "moves, 10 % lookups without\n"
      "a lease. Moves are the policy's own, promotions and demotions, driven by Tick: choosing, "
      "copying in name only and\n"
      "publishing one counts as one operation. p50 and p99 are over batches of 1000. Ceiling: 6 "
      "dependent random loads\n"
      "over as many bytes as the engine's metadata. Wanted: 1000 ns or less, and ratio 1 or less.\n"
      "engine_metadata_bytes_per_block: growth of the process's resident memory until the blocks "
      "were stored and the\n"
      "workload above held its leases, by their number. Ceiling: 96 bytes, the limit it is meant "
      "to keep.\n"
      "With --shared the two names have _shared in them, and there are engine_report and "
      "engine_report_random: what an\n"
      "engine needs for a report of a client's ring, of blocks of the same prefixes and of random "
      "ones. Ceiling: one\n"
      "dependent random load. Wanted: 50 ns. --socket has no effect.");
  SetAction(*engine, exit_code, [options] { return RunEngine(*options); });

  CLI::App* index = AddFigureCommand(
      *bench, "index",
      "Shared memory: index_resolve_single, index_resolve_batch64, index_row, section_enter_leave",
      *options);
  index->footer(
      "Nanoseconds, with 312,500 chunks of 32 planes and 10,000,000 of one (the name ends with "
      "which), in pages of 4 KiB\n"
      "and, where the machine gives them, of 2 MiB (page_bytes). index_resolve_single: where one "
      "random block is, each\n"
      "looked up after the one before. index_resolve_batch64: of 64 random blocks in one call, one "
      "of them. index_row: of\n"
      "all planes of random chunks, one block. Ceiling: one dependent read of a random cache line. "
      "Wanted: 550 ns (300\n"
      "with huge pages), 60 ns and, of 32 planes, 4 ns. section_enter_leave: a read section. "
      "Ceiling: an uncontended\n"
      "exchange. Wanted: 30 ns. Takes about 3 minutes and 3 GB. --socket has no effect.");
  SetAction(*index, exit_code, [options] { return RunIndex(*options); });

  CLI::App* bound = AddFigureCommand(
      *bench, "bound", "The bound on placement: bound_value, bound_evaluation, bound_smoothed",
      *options);
  std::vector<std::string> problems;
  for (const bench::BoundProblem& problem : bench::BoundProblems())
    problems.push_back(problem.name);
  bound
      ->add_option("--rows", options->rows,
                   absl::StrCat("Instead: how near bound and schedule come, and in what time; all, "
                                "or some of\n",
                                absl::StrJoin(problems, ", ")))
      ->delimiter(',')
      ->type_name("NAME,...");
  AddCountOption(*bound, "--seeds", options->seeds, 1, 100, "Of each row, one after another");
  bound->footer(
      "Nanoseconds an access of evaluating the bound at given prices, one thread, on 20,000 blocks "
      "and 300 steps with two\n"
      "tiers: alone, with what its paths load and occupy, and smoothed with the same. Ceiling: a "
      "pass over the accesses that\n"
      "looks up the costs of each one's phase. Wanted: 30 ns with loads. --socket has no effect.\n"
      "--rows: on problems of attention made up by seed, with a time limit of CPU seconds each: "
      "gap, "
      "CPU seconds, memory.");
  SetAction(*bound, exit_code, [options] { return RunBound(*options); });

  CLI::App* sim = AddFigureCommand(
      *bench, "sim", "Simulations: sim_requests_one_tier, sim_requests_two_tiers, sim_attention",
      *options);
  sim->footer(
      "Nanoseconds of processor time an access, with all checks, policy lru, one thread: 4,000 "
      "made-up prompts with room for\n"
      "half of their chunks in DRAM, the same with HBM, where nearly each access comes with a "
      "move, and 100 steps of\n"
      "attention. Ceiling: a pass over the accesses that looks each block up in a hash table. "
      "Wanted: 2000 ns. --socket has\n"
      "no effect.");
  SetAction(*sim, exit_code, [options] { return RunSimulations(*options); });

  CLI::App* echo = bench->add_subcommand("echo", "The server that is rpc's ceiling");
  echo->group("");  // not shown: `bench rpc` starts it
  echo->add_option("--echo-socket", options->echo_socket)->required();
  echo->add_option("--ready-fd", options->ready_fd)->required();
  SetAction(*echo, exit_code,
            [options] { return bench::RunEchoServer(options->echo_socket, options->ready_fd); });
}

}  // namespace kvtier::cli
