// `kvtier put`.
#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "client/cli/admin_client.h"
#include "client/cli/command.h"
#include "client/cli/interrupt.h"
#include "client/cli/option_values.h"
#include "client/cli/progress.h"
#include "client/cli/stored_file.h"
#include "proto/wire/sha256.h"

namespace kvtier::cli {
namespace {

struct PutOptions {
  CommonOptions common;
  std::string file;
  std::string name;
  std::string model = "kvtier.file";
  uint64_t chunk_bytes = 256 << 10;
  bool replace = false;
  bool progress = false;
};

// What a put holds until it is done: a file's chunks must not be evicted to make room for its later
// ones.
class Leases {
 public:
  explicit Leases(Client& client) : client_(client) {}
  ~Leases() {
    for (const LeaseHandle lease : leases_) (void)client_.Release(lease);
  }
  Leases(const Leases&) = delete;
  Leases& operator=(const Leases&) = delete;
  absl::Status Hold(const Model& model, std::vector<Key> keys) {
    const size_t wanted = keys.size();
    auto match =
        client_.Lookup({.model = model, .keys = std::move(keys), .lease_ttl = absl::Minutes(10)});
    if (!match.ok()) return match.status();
    if (match->lease != 0) leases_.push_back(match->lease);
    if (match->chunks == wanted) return absl::OkStatus();
    return absl::ResourceExhaustedError("chunks that were just stored were evicted");
  }

 private:
  Client& client_;
  std::vector<LeaseHandle> leases_;
};

// Fills `buffer` unless the input ends before. DATA_LOSS: it cannot be read; CANCELLED: a signal
// came.
absl::StatusOr<size_t> ReadFull(int fd, std::vector<char>& buffer) {
  size_t filled = 0;
  while (filled < buffer.size()) {
    if (absl::Status status = AwaitReady(fd, POLLIN); !status.ok()) return status;
    const ssize_t got = ::read(fd, buffer.data() + filled, buffer.size() - filled);
    if (got == 0) break;
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0)
      return absl::DataLossError(absl::StrCat("cannot read the input: ", std::strerror(errno)));
    filled += static_cast<size_t>(got);
  }
  return filled;
}

absl::StatusOr<std::string> NewUploadId() {
  char bytes[16];
  if (::getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) {
    return absl::InternalError(absl::StrCat("getrandom: ", std::strerror(errno)));
  }
  return HexText({bytes, sizeof(bytes)});
}

// Stores `count` chunks of `buffer` behind `parent`.
absl::Status StoreBatch(Client& client, const Model& model, const Key& parent,
                        absl::Span<const Key> keys, const char* bytes, uint64_t chunk_bytes) {
  auto reservation = client.Reserve(
      {.model = model, .parent = parent, .chunk_count = static_cast<uint32_t>(keys.size())});
  if (!reservation.ok()) return reservation.status();
  PutRequest put{.model = model, .reservation = *reservation};
  CommitRequest commit{.model = model, .reservation = *reservation};
  for (uint32_t i = 0; i < keys.size(); ++i) {
    put.blocks.push_back(
        {.chunk = i, .plane = 0, .pieces = {{bytes + i * chunk_bytes, chunk_bytes}}});
    commit.chunks.push_back({.chunk = i, .key = keys[i], .token_count = 1});
  }
  absl::Status status = client.Put(std::move(put));
  if (status.ok()) status = client.Commit(std::move(commit)).status();
  if (!status.ok()) (void)client.Abort(*reservation);
  return status;
}

// Stores the input to its end; fills in the manifest, which on an error covers all that was stored.
absl::Status StoreInput(Client& client, const Model& model, int fd, Manifest& manifest,
                        Leases& leases, Progress& progress) {
  const uint64_t batch_chunks =
      std::clamp<uint64_t>(kBatchBytes / manifest.chunk_bytes, 1, kChainChunks);
  std::vector<char> buffer(batch_chunks * manifest.chunk_bytes);
  wire::Sha256 sha256;
  std::vector<Key> chain;  // keys of the prefix that is being written
  for (uint64_t next_chunk = 0;;) {
    const uint64_t in_chain = next_chunk % kChainChunks;
    if (in_chain == 0)
      chain = FileStore::ChainKeys(model, manifest.upload, next_chunk, kChainChunks);
    buffer.resize(std::min(batch_chunks, kChainChunks - in_chain) * manifest.chunk_bytes);
    auto read_bytes = ReadFull(fd, buffer);
    if (!read_bytes.ok()) return read_bytes.status();
    if (*read_bytes == 0) break;
    sha256.Raw(buffer.data(), *read_bytes);
    const uint64_t chunks = (*read_bytes + manifest.chunk_bytes - 1) / manifest.chunk_bytes;
    std::fill(buffer.begin() + static_cast<std::ptrdiff_t>(*read_bytes), buffer.end(), '\0');
    const auto first = chain.begin() + static_cast<std::ptrdiff_t>(in_chain);
    const std::vector<Key> keys(first, first + static_cast<std::ptrdiff_t>(chunks));
    // Counted first: what fails half way may have left chunks, which ForgetChunks() must reach.
    const uint64_t stored_bytes = manifest.size_bytes;
    manifest.size_bytes += *read_bytes;
    absl::Status status = StoreBatch(client, model, in_chain == 0 ? Key{} : chain[in_chain - 1],
                                     keys, buffer.data(), manifest.chunk_bytes);
    if (status.ok()) status = leases.Hold(model, keys);
    if (absl::IsResourceExhausted(status)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("after ", SizeText(stored_bytes), ": ", status.message(),
                       "; `kvtier pools` shows how much room there is"));
    }
    if (!status.ok()) return status;
    next_chunk += chunks;
    progress.Add(*read_bytes);
    if (*read_bytes < buffer.size()) break;
  }
  manifest.sha256 = HexText(sha256.Finish());
  return absl::OkStatus();
}

// What the new file will take the name from: with --replace whatever has it, else only what is no
// longer whole.
absl::StatusOr<std::optional<Manifest>> FindOld(FileStore& store, const PutOptions& options) {
  auto old = store.FindManifest(options.name);
  if (absl::IsNotFound(old.status())) return std::nullopt;
  if (!old.ok()) return old.status();
  if (!options.replace) {
    auto present = store.PresentChunks(*old);
    if (!present.ok()) return present.status();
    if (*present == old->chunk_count()) {
      return absl::AlreadyExistsError(absl::StrCat("something is stored as \"", options.name,
                                                   "\" already: --replace puts this in its place"));
    }
  }
  return *std::move(old);
}

// Stores what can be read from `fd` under the name; fills in the manifest. What fails leaves
// nothing of it, and what had the name before.
absl::Status StoreFile(Client& client, const PutOptions& options, int fd, uint64_t expected_bytes,
                       Manifest& manifest) {
  auto store = FileStore::Open(&client, options.model);
  if (!store.ok()) return store.status();
  auto old = FindOld(*store, options);
  if (!old.ok()) return old.status();
  manifest.chunk_bytes = options.chunk_bytes;
  auto model = store->DataModel(manifest.chunk_bytes);
  if (!model.ok()) return model.status();
  auto upload = NewUploadId();
  if (!upload.ok()) return upload.status();
  manifest.upload = *upload;

  CatchSignals();  // from here on there may be chunks to forget
  absl::Status status;
  {
    Leases leases(client);
    Progress progress(absl::StrCat("put ", options.name), expected_bytes, options.progress);
    status = StoreInput(client, *model, fd, manifest, leases, progress);
    if (status.ok()) status = CheckInterrupted();
    if (status.ok()) status = store->WriteManifest(options.name, manifest, *old);
  }
  // Chunks that nobody can find any more; if they cannot be forgotten, they are evicted some time.
  if (!status.ok()) {
    (void)store->ForgetChunks(manifest);
  } else if (old->has_value()) {
    (void)store->ForgetChunks(**old);
  }
  return status;
}

absl::Status RunPut(PutOptions options) {
  const bool standard_input = options.file == "-";
  if (options.name.empty()) {
    if (standard_input) return UsageError("the standard input has no name; give --name NAME");
    options.name = std::filesystem::path(options.file).filename().string();
    absl::Status status = CheckText("the file's own name", options.name, kNameBytesMax);
    if (!status.ok()) return UsageError(absl::StrCat(status.message(), "; give --name NAME"));
  }
  const int fd = standard_input ? STDIN_FILENO : ::open(options.file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return absl::NotFoundError(
        absl::StrCat("cannot open ", options.file, ": ", std::strerror(errno)));
  }
  const absl::Cleanup close_file = [&] {
    if (!standard_input) ::close(fd);
  };
  struct stat info {};
  if (::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(options.file, " is a directory; only files can be stored"));
  }
  auto client = ConnectClient(options.common.socket, "kvtier put");
  if (!client.ok()) return client.status();
  Manifest manifest;
  absl::Status status =
      StoreFile(**client, options, fd,
                S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0, manifest);
  if (!status.ok()) return status;
  if (options.common.json) {
    PrintJson({{"name", options.name},
               {"bytes", manifest.size_bytes},
               {"chunks", manifest.chunk_count()},
               {"chunk_bytes", manifest.chunk_bytes},
               {"sha256", manifest.sha256}});
  } else {
    std::printf("stored %s as \"%s\": %llu chunks of %s, sha256 %s\n",
                SizeText(manifest.size_bytes).c_str(), options.name.c_str(),
                static_cast<unsigned long long>(manifest.chunk_count()),
                SizeText(manifest.chunk_bytes).c_str(), manifest.sha256.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddPutCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<PutOptions>();
  CLI::App* command = app.add_subcommand("put", "Stores a file as chunks of opaque bytes");
  AddCommonOptions(*command, options->common);
  command
      ->add_option("FILE", options->file, "The file; - for the standard input, which needs --name")
      ->required()
      ->type_name("");
  AddTextOption(*command, "--name", options->name, kNameBytesMax,
                "What to store it as, up to 1024 bytes (default: the file's own name)");
  AddTextOption(*command, "--model", options->model, kModelNameBytesMax,
                "Name of the model to store it under, up to 119 bytes (default kvtier.file)");
  AddSizeOption(*command, "--chunk-bytes", options->chunk_bytes, kChunkBytesMin, kChunkBytesMax,
                "Bytes of a chunk");
  command->add_flag("--replace", options->replace, "Replace what is stored under that name");
  command->add_flag("--progress", options->progress,
                    "Show progress also where stderr is no terminal");
  command->footer(
      "Examples: kvtier put weights.bin --name weights --replace\n"
      "          tar c run | kvtier put - --name run.tar");
  SetAction(*command, exit_code, [options] { return RunPut(*options); });
}

}  // namespace kvtier::cli
