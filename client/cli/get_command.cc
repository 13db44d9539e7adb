// `kvtier get`.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/admin_client.h"
#include "client/cli/command.h"
#include "client/cli/interrupt.h"
#include "client/cli/option_values.h"
#include "client/cli/output_file.h"
#include "client/cli/progress.h"
#include "client/cli/stored_file.h"
#include "proto/wire/sha256.h"

namespace kvtier::cli {
namespace {

constexpr const char* kStandardOutput = "-";

struct GetOptions {
  CommonOptions common;
  std::string name;
  std::string output;
  std::string model = "kvtier.file";
  bool progress = false;
};

absl::Status Incomplete(const GetOptions& options, const Manifest& manifest, uint64_t there) {
  return absl::DataLossError(
      absl::StrCat("\"", options.name, "\" is no longer whole: of its ", manifest.chunk_count(),
                   " chunks only the first ", there,
                   " or a few more are there, others were evicted; put it again"));
}

// Fetches one prefix of the file and writes it out.
class ChainReader {
 public:
  ChainReader(Client& client, const Model& model, const Manifest& manifest, OutputFile& file,
              wire::Sha256& sha256, Progress& progress)
      : client_(client),
        model_(model),
        manifest_(manifest),
        file_(file),
        sha256_(sha256),
        progress_(progress) {}

  // Chunks first .. first + count - 1 of the file, which `lease` holds.
  absl::Status Read(LeaseHandle lease, uint64_t first, uint64_t count) {
    const uint64_t batch_chunks =
        std::clamp<uint64_t>(kBatchBytes / manifest_.chunk_bytes, 1, kChainChunks);
    std::vector<char> buffer;
    for (uint64_t done = 0; done < count; done += batch_chunks) {
      if (absl::Status status = CheckInterrupted(); !status.ok()) return status;
      const uint64_t chunks = std::min(batch_chunks, count - done);
      buffer.resize(chunks * manifest_.chunk_bytes);
      GetRequest get{.model = model_, .lease = lease};
      for (uint64_t i = 0; i < chunks; ++i) {
        get.blocks.push_back(
            {.chunk = static_cast<uint32_t>(done + i),
             .plane = 0,
             .pieces = {{buffer.data() + i * manifest_.chunk_bytes, manifest_.chunk_bytes}}});
      }
      auto result = client_.Get(std::move(get));
      if (!result.ok()) return result.status();
      for (const BlockResult& block : result->blocks) {
        if (!block.status.ok()) return block.status;
      }
      for (const auto& [pool, bytes] : result->bytes_by_pool) bytes_by_pool_[pool] += bytes;
      const uint64_t offset = (first + done) * manifest_.chunk_bytes;
      const uint64_t bytes = std::min<uint64_t>(buffer.size(), manifest_.size_bytes - offset);
      sha256_.Raw(buffer.data(), bytes);
      if (absl::Status status = file_.Write(buffer.data(), bytes); !status.ok()) return status;
      progress_.Add(bytes);
    }
    return absl::OkStatus();
  }

  const std::map<std::string, uint64_t>& bytes_by_pool() const { return bytes_by_pool_; }

 private:
  Client& client_;
  const Model& model_;
  const Manifest& manifest_;
  OutputFile& file_;
  wire::Sha256& sha256_;
  Progress& progress_;
  std::map<std::string, uint64_t> bytes_by_pool_;
};

void PrintResult(const GetOptions& options, const Manifest& manifest,
                 const std::map<std::string, uint64_t>& bytes_by_pool) {
  if (options.common.json) {
    PrintJson({{"name", options.name},
               {"output", options.output},
               {"bytes", manifest.size_bytes},
               {"chunks", manifest.chunk_count()},
               {"chunk_bytes", manifest.chunk_bytes},
               {"sha256", manifest.sha256},
               {"bytes_by_pool", bytes_by_pool}});
    return;
  }
  std::vector<std::string> pools;
  for (const auto& [pool, bytes] : bytes_by_pool)
    pools.push_back(absl::StrCat(SizeText(bytes), " from ", pool));
  std::printf("wrote %s to %s (%s), sha256 %s\n", SizeText(manifest.size_bytes).c_str(),
              options.output.c_str(),
              pools.empty() ? "no chunks" : absl::StrJoin(pools, ", ").c_str(),
              manifest.sha256.c_str());
}

absl::Status RunGet(const GetOptions& options) {
  if (options.output == kStandardOutput && options.common.json)
    return UsageError("--json and -o - would both write to the standard output: use one of them");
  auto client = ConnectClient(options.common.socket, "kvtier get");
  if (!client.ok()) return client.status();
  auto store = FileStore::Open(client->get(), options.model);
  if (!store.ok()) return store.status();
  auto manifest = store->FindManifest(options.name);
  if (!manifest.ok()) return manifest.status();
  auto model = store->DataModel(manifest->chunk_bytes);
  if (!model.ok()) return model.status();
  CatchSignals();  // from here on something may have to be removed
  auto file = OutputFile::Create(options.output);
  if (!file.ok()) return file.status();

  wire::Sha256 sha256;
  Progress progress(absl::StrCat("get ", options.name), manifest->size_bytes, options.progress);
  ChainReader reader(**client, *model, *manifest, **file, sha256, progress);
  for (uint64_t first = 0; first < manifest->chunk_count(); first += kChainChunks) {
    const uint64_t count = std::min(kChainChunks, manifest->chunk_count() - first);
    auto match = (*client)->Lookup(
        {.model = *model, .keys = FileStore::ChainKeys(*model, manifest->upload, first, count)});
    if (!match.ok()) return match.status();
    const absl::Cleanup release = [&] {
      if (match->lease != 0) (void)(*client)->Release(match->lease);
    };
    if (match->chunks < count) {
      auto there = store->PresentChunks(*manifest);
      return there.ok() ? Incomplete(options, *manifest, *there) : there.status();
    }
    if (absl::Status status = reader.Read(match->lease, first, count); !status.ok()) return status;
  }
  if (HexText(sha256.Finish()) != manifest->sha256) {
    return absl::DataLossError(absl::StrCat(
        "\"", options.name, "\" has not the sha256 that it was stored with, ", manifest->sha256));
  }
  if (absl::Status status = (*file)->Commit(); !status.ok()) return status;
  if (options.output == kStandardOutput) return absl::OkStatus();
  PrintResult(options, *manifest, reader.bytes_by_pool());
  return absl::OkStatus();
}

}  // namespace

void AddGetCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<GetOptions>();
  CLI::App* command =
      app.add_subcommand("get", "Fetches what put stored, verifies it and writes it to a file");
  AddCommonOptions(*command, options->common);
  AddTextOption(*command, "NAME", options->name, kNameBytesMax, "What it was stored as")
      ->required()
      ->type_name("");
  command
      ->add_option(
          "-o,--output", options->output,
          "The file to write; it appears, or is replaced, only when all is there. - for the "
          "standard output;\nthat, a pipe or a device gets the bytes as they come")
      ->required()
      ->type_name("FILE");
  AddTextOption(*command, "--model", options->model, kModelNameBytesMax,
                "Name of the model it was stored under (default kvtier.file)");
  command->add_flag("--progress", options->progress,
                    "Show progress also where stderr is no terminal");
  command->footer("Example: kvtier get weights -o weights.copy");
  SetAction(*command, exit_code, [options] { return RunGet(*options); });
}

}  // namespace kvtier::cli
