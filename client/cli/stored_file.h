// Files as chunks of opaque bytes: what `kvtier put` and `kvtier get` agree on.
//
// A file is cut into chunks of one size (the last is padded with zeros), in prefixes of at most
// kChainChunks chunks each, under keys that contain a random upload id. A manifest of 4 KiB under a
// key made of the name says how to find and check them. It is committed last, so a name exists only
// once its bytes do.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kvtier/client.h"

namespace kvtier::cli {

inline constexpr uint64_t kChunkBytesMin = 4 << 10;
inline constexpr uint64_t kChunkBytesMax = 64 << 20;
inline constexpr uint64_t kChainChunks = 1024;
inline constexpr size_t kNameBytesMax = 1024;
// A daemon takes names of models of up to 128 bytes, and ".manifest" is appended.
inline constexpr size_t kModelNameBytesMax = 119;
// What is held in memory, and in flight, at a time; at least one chunk.
inline constexpr uint64_t kBatchBytes = 16 << 20;

struct Manifest {
  uint64_t size_bytes = 0;
  uint64_t chunk_bytes = 0;
  std::string upload;  // 32 hexadecimal digits, new for each put
  std::string sha256;  // of the file, 64 hexadecimal digits

  uint64_t chunk_count() const { return (size_bytes + chunk_bytes - 1) / chunk_bytes; }
};

// Finds and writes manifests, and names the chunks of a file. Uses a client that it does not own.
// Not thread-safe.
class FileStore {
 public:
  // `model_name` keeps files of different purposes apart. Registers the manifests' model.
  static absl::StatusOr<FileStore> Open(Client* client, const std::string& model_name);

  // NOT_FOUND: no such name. DATA_LOSS: there is something else under it.
  absl::StatusOr<Manifest> FindManifest(const std::string& name);
  // Gives the name to `manifest`, in place of `old` if that is there, whose chunks stay. Up to the
  // last moment what fails changes nothing. ALREADY_EXISTS: the name is taken by something else.
  absl::Status WriteManifest(const std::string& name, const Manifest& manifest,
                             const std::optional<Manifest>& old);

  // The model of files with chunks of this size.
  absl::StatusOr<Model> DataModel(uint64_t chunk_bytes);
  // Keys of `chunk_count` chunks from `first` on, which must be a multiple of kChainChunks.
  static std::vector<Key> ChainKeys(const Model& model, const std::string& upload, uint64_t first,
                                    uint64_t chunk_count);

  // Removes the chunks that are there.
  absl::Status ForgetChunks(const Manifest& manifest);
  // How many of the file's chunks are there, up to the first prefix that is not whole.
  absl::StatusOr<uint64_t> PresentChunks(const Manifest& manifest);

 private:
  FileStore(Client* client, std::string model_name, Model manifests)
      : client_(client), model_name_(std::move(model_name)), manifests_(std::move(manifests)) {}
  Key ManifestKey(const std::string& name) const;
  absl::Status CommitManifest(const std::string& name, ReservationHandle reservation);
  absl::StatusOr<ReservationHandle> UploadManifest(const Manifest& manifest);

  Client* client_;
  std::string model_name_;
  Model manifests_;
};

}  // namespace kvtier::cli
