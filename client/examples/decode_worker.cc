// decode_worker: an inference worker that keeps its KV in kvtierd, or in its own memory.
//
// It is a program to read as much as to run: prompt_runner.cc shows the calls an engine makes, in
// their order.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/examples/daemon_kv_store.h"
#include "client/examples/file_bytes.h"
#include "client/examples/local_kv_store.h"
#include "client/examples/prompt_runner.h"
#include "client/examples/run_report.h"
#include "tiering/base/status_macros.h"

namespace kvtier::examples {
namespace {

constexpr const char* kDescription =
    R"(Runs prompts through a small Llama-style transformer on the CPU and keeps the KV of every chunk of
tokens in kvtierd, where other workers and later runs find it. Greedy decoding, one byte is one token.

For each prompt the worker asks for the longest stored prefix, attends to those chunks where they lie in
memory shared with the daemon (or copies them) instead of computing them, computes the rest, commits
every chunk that fills (and the partial one at the end), and reports what each layer attended to. When the daemon is full, or gone, it computes and keeps its KV to
itself: the answer is the same, to the bit.

Examples
  decode_worker --no-daemon --prompt "Hello"                 without a daemon
  decode_worker --prompt-file README.md --json -             through the daemon at the default socket
  decode_worker --socket /tmp/k.sock --model DIR --prompt-file a.txt --prompt-file b.txt --rounds 2)";

constexpr const char* kFooter =
    R"(--model DIR needs DIR/config.json and DIR/model.safetensors (F32, BF16 or F16, a vocabulary of 256).
Exit status: 0 all prompts ran, whatever the daemon did; 1 wrong arguments or model, or refused by the daemon.)";

struct Flags {
  std::string socket;
  bool no_daemon = false;
  size_t local_bytes_max = size_t{1} << 30;
  std::string model;
  uint64_t seed = 1;
  ModelConfig config;
  std::string kv_dtype = "fp32";
  size_t chunk_tokens = 16;
  std::vector<std::string> texts;
  std::vector<std::string> files;
  size_t prompt_bytes_max = 2048;
  size_t rounds = 1;
  PromptRunner::Options run;
  bool no_reuse = false;
  std::string transport = "auto";
  std::string verify = "first_read";
  std::string json;
  bool json_lines = false;
  std::string pause_at;
  size_t pause_after = 0;
};

struct Prompt {
  std::string name;
  std::string text;
};

void AddFlags(CLI::App& app, Flags& flags) {
  const std::string where = "Where KV is kept";
  auto* socket =
      app.add_option("--socket", flags.socket,
                     "The daemon's Unix socket; default: $KVTIER_SOCKET, else "
                     "$XDG_RUNTIME_DIR/kvtier/kvtierd.sock, else /run/kvtier/kvtierd.sock");
  app.add_flag("--no-daemon", flags.no_daemon, "Keep KV in this process")
      ->excludes(socket)
      ->group(where);
  socket->group(where);
  app.add_option("--local-bytes-max", flags.local_bytes_max,
                 "With --no-daemon: memory for kept chunks, in bytes")
      ->capture_default_str()
      ->group(where);
  app.add_option(
         "--transport", flags.transport,
         "How bytes come and go: shared memory where there is some, else streams; or one of the "
         "two, and fail without")
      ->check(CLI::IsMember({"auto", "stream", "shared_memory"}))
      ->capture_default_str()
      ->group(where);
  app.add_option(
         "--verify", flags.verify,
         "Compare blocks that are read in place with their checksums: each copy once, always, "
         "or never")
      ->check(CLI::IsMember({"first_read", "always", "off"}))
      ->capture_default_str()
      ->group(where);
  app.add_flag("--no-reuse", flags.no_reuse,
               "Look nothing up: compute every token, but still store chunks")
      ->group(where);

  const std::string model = "Model";
  auto* directory =
      app.add_option("--model", flags.model, "Directory with config.json and model.safetensors");
  directory->group(model);
  app.add_option("--seed", flags.seed,
                 "Without --model: seed of random weights; equal seeds and shapes share KV")
      ->capture_default_str()
      ->excludes(directory)
      ->group(model);
  const auto shape = [&](const char* name, size_t& value, const char* help) {
    app.add_option(name, value, help)->capture_default_str()->excludes(directory)->group(model);
  };
  shape("--layers", flags.config.num_hidden_layers, "Transformer layers");
  shape("--hidden", flags.config.hidden_size,
        "Size of the residual stream; the heads share it evenly");
  shape("--heads", flags.config.num_attention_heads, "Query heads");
  shape("--kv-heads", flags.config.num_key_value_heads, "Key-value heads; divides --heads");
  shape("--intermediate", flags.config.intermediate_size, "Size inside the SwiGLU block");
  app.add_option("--kv-dtype", flags.kv_dtype, "Element type of stored KV")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str()
      ->group(model);
  app.add_option("--chunk-tokens", flags.chunk_tokens, "Tokens a chunk, 1 to 1024")
      ->capture_default_str()
      ->group(model);

  const std::string prompts = "Prompts";
  // One value an occurrence, so that "--prompt a b" is a mistake and not two prompts.
  app.add_option("--prompt", flags.texts, "A prompt; repeatable, run in the order given")
      ->allow_extra_args(false)
      ->group(prompts);
  app.add_option("--prompt-file", flags.files,
                 "A file with a prompt; repeatable, in order with --prompt")
      ->allow_extra_args(false)
      ->group(prompts);
  app.add_option("--prompt-bytes-max", flags.prompt_bytes_max,
                 "Only the first bytes of a longer prompt are used")
      ->check(CLI::Range(size_t{1}, size_t{1} << 20))
      ->capture_default_str()
      ->group(prompts);
  app.add_option("--max-tokens", flags.run.tokens_max, "Tokens to generate for each prompt")
      ->check(CLI::Range(size_t{0}, size_t{1} << 20))
      ->capture_default_str()
      ->group(prompts);
  app.add_option("--rounds", flags.rounds, "Run the list of prompts this often")
      ->check(CLI::Range(size_t{1}, size_t{1} << 20))
      ->capture_default_str()
      ->group(prompts);

  const std::string reports = "Reports";
  app.add_option("--report-every", flags.run.report_every,
                 "Decode steps between attention reports; 0: none")
      ->capture_default_str()
      ->group(reports);
  app.add_option("--json", flags.json,
                 "Write one JSON object to this file, or to standard output for -")
      ->group(reports);

  app.add_flag(
         "--json-lines", flags.json_lines,
         "Print each prompt's result, as it is in --json, on a line of its own when it is there")
      ->group(reports);

  const std::string tests = "For fault tests";
  auto* pause_at =
      app.add_option(
             "--pause-at", flags.pause_at,
             "Stop at a point: print 'paused: POINT', then wait for a byte on standard input")
          ->check(CLI::IsMember({"reserved", "half_stored", "before_commit", "after_commit",
                                 "leased", "reserved_half_written", "entered", "inside_section"}))
          ->group(tests);
  app.add_option("--pause-after", flags.pause_after,
                 "Pass the point this often before stopping there")
      ->capture_default_str()
      ->needs(pause_at)
      ->group(tests);
}

// The prompts in command-line order, which spans two options.
absl::StatusOr<std::vector<Prompt>> ReadPrompts(const CLI::App& app, const Flags& flags) {
  std::vector<Prompt> prompts;
  size_t texts = 0;
  size_t files = 0;
  for (const CLI::Option* option : app.parse_order()) {
    if (option->get_name() == "--prompt") {
      const std::string& text = flags.texts.at(texts++);
      prompts.push_back({absl::StrCat("text ", texts), text.substr(0, flags.prompt_bytes_max)});
    } else if (option->get_name() == "--prompt-file") {
      const std::string& path = flags.files.at(files++);
      KVTIER_ASSIGN_OR_RETURN(std::string text, ReadFileStart(path, flags.prompt_bytes_max));
      prompts.push_back({path, std::move(text)});
    } else {
      continue;
    }
    if (prompts.back().text.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("prompt ", prompts.back().name, " is empty"));
    }
  }
  if (prompts.empty())
    return absl::InvalidArgumentError("no prompt: give --prompt TEXT or --prompt-file FILE");
  return prompts;
}

absl::StatusOr<Weights> MakeWeights(Flags& flags) {
  if (!flags.model.empty()) return LoadWeights(flags.model);
  const size_t heads = flags.config.num_attention_heads;
  if (heads == 0 || flags.config.hidden_size % heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("--hidden is ", flags.config.hidden_size,
                                                   "; it must be a multiple of --heads, which is ",
                                                   heads));
  }
  flags.config.head_dim = flags.config.hidden_size / heads;
  return RandomWeights(flags.config, flags.seed);
}

absl::Status CheckLengths(const std::vector<Prompt>& prompts, const Flags& flags,
                          const ModelConfig& config) {
  for (const Prompt& prompt : prompts) {
    if (prompt.text.size() + flags.run.tokens_max > config.max_position_embeddings) {
      return absl::InvalidArgumentError(absl::StrCat(
          "prompt ", prompt.name, ": ", prompt.text.size(), " tokens and ", flags.run.tokens_max,
          " to generate; the model has ", config.max_position_embeddings, " positions"));
    }
  }
  return absl::OkStatus();
}

// What KV is kept in, and what to say of it in the report.
struct Storage {
  std::unique_ptr<KvStore> store;
  const DaemonKvStore* daemon = nullptr;  // null: without one
  std::string name() const { return daemon == nullptr ? "local" : daemon->transport_name(); }
};

absl::StatusOr<Storage> MakeStorage(const Flags& flags, const KvGeometry& geometry,
                                    const Weights& weights, PausePoints& pauses) {
  Storage storage;
  if (flags.no_daemon) {
    storage.store = std::make_unique<LocalKvStore>(
        LocalKvStore::Options{.geometry = geometry, .bytes_max = flags.local_bytes_max});
    return storage;
  }
  DaemonKvStore::Options options = {
      .geometry = geometry, .fingerprint = weights.fingerprint, .socket = flags.socket};
  options.transport = flags.transport == "stream"          ? Transport::kStream
                      : flags.transport == "shared_memory" ? Transport::kSharedMemory
                                                           : Transport::kAuto;
  options.verify = flags.verify == "off"      ? Verify::kOff
                   : flags.verify == "always" ? Verify::kAlways
                                              : Verify::kFirstRead;
  KVTIER_ASSIGN_OR_RETURN(std::unique_ptr<DaemonKvStore> daemon,
                          DaemonKvStore::Create(options, pauses));
  storage.daemon = daemon.get();
  storage.store = std::move(daemon);
  return storage;
}

// Names come from the command line and errors from elsewhere: bytes that are not UTF-8 are
// replaced.
std::string Text(const nlohmann::ordered_json& json, int indent) {
  return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::Status WriteJson(const std::string& path, const std::string& text) {
  std::FILE* file = path == "-" ? stdout : std::fopen(path.c_str(), "we");
  if (file == nullptr) return absl::NotFoundError(absl::StrCat(path, ": ", std::strerror(errno)));
  bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  written = (file == stdout ? std::fflush(file) : std::fclose(file)) == 0 && written;
  if (!written) return absl::DataLossError(absl::StrCat(path, ": ", std::strerror(errno)));
  return absl::OkStatus();
}

absl::Status Run(const CLI::App& app, Flags& flags) {
  const auto start = std::chrono::steady_clock::now();
  KVTIER_ASSIGN_OR_RETURN(const std::vector<Prompt> prompts, ReadPrompts(app, flags));
  KVTIER_ASSIGN_OR_RETURN(const Weights weights, MakeWeights(flags));
  KVTIER_RETURN_IF_ERROR(CheckLengths(prompts, flags, weights.config));
  KVTIER_ASSIGN_OR_RETURN(
      const KvGeometry geometry,
      KvGeometry::Create(weights.config, *ParseKvType(flags.kv_dtype), flags.chunk_tokens));
  PausePoints pauses;
  if (const auto point = ParsePausePoint(flags.pause_at)) {
    pauses = PausePoints(*point, flags.pause_after, STDIN_FILENO, stdout);
  }
  KVTIER_ASSIGN_OR_RETURN(const Storage storage, MakeStorage(flags, geometry, weights, pauses));
  flags.run.reuse = !flags.no_reuse;
  PromptRunner runner(weights, geometry, *storage.store, pauses, flags.run);

  // Lines for people leave standard output to the JSON when it goes there.
  std::FILE* lines = flags.json == "-" ? stderr : stdout;
  std::vector<NamedResult> results;
  for (size_t round = 1; round <= flags.rounds; ++round) {
    for (const Prompt& prompt : prompts) {
      results.push_back({prompt.name, round, runner.Run(prompt.text)});
      const std::string line =
          flags.json_lines ? Text(PromptJson(results.back()), -1) : PromptLine(results.back());
      std::fprintf(lines, "%s\n", line.c_str());
      std::fflush(lines);
    }
  }
  if (flags.json.empty()) return absl::OkStatus();
  RunHeader header{.store = flags.no_daemon        ? "local"
                            : flags.socket.empty() ? DefaultSocketPath()
                                                   : flags.socket,
                   .transport = storage.name(),
                   .fingerprint = weights.fingerprint,
                   .geometry = geometry};
  header.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return WriteJson(flags.json, absl::StrCat(Text(RunJson(header, results), 2), "\n"));
}

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app(kDescription, "decode_worker");
  app.footer(kFooter);
  AddFlags(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 1;
  }
  const absl::Status status = Run(app, flags);
  if (status.ok()) return 0;
  std::fprintf(stderr, "decode_worker: %s: %s\n", absl::StatusCodeToString(status.code()).c_str(),
               std::string(status.message()).c_str());
  return 1;
}

}  // namespace
}  // namespace kvtier::examples

int main(int argc, char** argv) { return kvtier::examples::Main(argc, argv); }
