#include "client/cli/stored_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace kvtier::cli {
namespace {

constexpr uint64_t kManifestBytes = 4096;
constexpr const char* kFormat = "kvtier.file.1";
constexpr uint64_t kFileBytesMax = uint64_t{1} << 40;

ModelGeometry GeometryOf(const std::string& name, const std::string& plane, uint64_t bytes) {
  ModelGeometry geometry;
  geometry.name = name;
  geometry.revision = "1";
  geometry.data_type = "bytes";
  geometry.layout_version = kFormat;
  geometry.chunk_tokens = 1;
  geometry.planes.push_back({.name = plane, .bytes_per_chunk = bytes});
  return geometry;
}

bool IsHex(const std::string& text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isxdigit(c);
         });
}

std::string ManifestText(const Manifest& manifest) {
  std::string text = nlohmann::json{
      {"format", kFormat},
      {"size_bytes", manifest.size_bytes},
      {"chunk_bytes", manifest.chunk_bytes},
      {"upload", manifest.upload},
      {"sha256",
       manifest.sha256}}.dump();
  text.resize(kManifestBytes, '\0');
  return text;
}

absl::StatusOr<Manifest> ParseManifest(const std::string& name, const std::string& text) {
  Manifest manifest;
  bool good = false;
  const auto json = nlohmann::json::parse(text.substr(0, text.find('\0')), nullptr, false);
  try {
    if (json.is_object() && json.at("format") == kFormat) {
      manifest.size_bytes = json.at("size_bytes").get<uint64_t>();
      manifest.chunk_bytes = json.at("chunk_bytes").get<uint64_t>();
      manifest.upload = json.at("upload").get<std::string>();
      manifest.sha256 = json.at("sha256").get<std::string>();
      good = manifest.size_bytes <= kFileBytesMax && manifest.chunk_bytes >= kChunkBytesMin &&
             manifest.chunk_bytes <= kChunkBytesMax && IsHex(manifest.upload, 32) &&
             IsHex(manifest.sha256, 64);
    }
  } catch (const nlohmann::json::exception&) {
    good = false;
  }
  if (good) return manifest;
  return absl::DataLossError(
      absl::StrCat("what is stored as \"", name, "\" is no manifest of ", kFormat));
}

}  // namespace

absl::StatusOr<FileStore> FileStore::Open(Client* client, const std::string& model_name) {
  auto manifests = client->RegisterModel(
      GeometryOf(absl::StrCat(model_name, ".manifest"), "manifest", kManifestBytes));
  if (!manifests.ok()) return manifests.status();
  return FileStore(client, model_name, *std::move(manifests));
}

Key FileStore::ManifestKey(const std::string& name) const {
  return manifests_.OpaqueKey({}, absl::StrCat("manifest:", name));
}

absl::StatusOr<Manifest> FileStore::FindManifest(const std::string& name) {
  auto match = client_->Lookup({.model = manifests_, .keys = {ManifestKey(name)}});
  if (!match.ok()) return match.status();
  if (match->chunks == 0) {
    return absl::NotFoundError(
        absl::StrCat("nothing is stored as \"", name,
                     "\": it was never put, was evicted, or kvtierd was restarted"));
  }
  const absl::Cleanup release = [&] { (void)client_->Release(match->lease); };
  std::string text(kManifestBytes, '\0');
  auto result =
      client_->Get({.model = manifests_,
                    .lease = match->lease,
                    .blocks = {{.chunk = 0, .plane = 0, .pieces = {{text.data(), text.size()}}}}});
  if (!result.ok()) return result.status();
  if (!result->all_ok) return result->blocks[0].status;
  return ParseManifest(name, text);
}

absl::StatusOr<ReservationHandle> FileStore::UploadManifest(const Manifest& manifest) {
  const std::string text = ManifestText(manifest);
  auto reservation = client_->Reserve({.model = manifests_});
  if (!reservation.ok()) return reservation;
  absl::Status status =
      client_->Put({.model = manifests_,
                    .reservation = *reservation,
                    .blocks = {{.chunk = 0, .plane = 0, .pieces = {{text.data(), text.size()}}}}});
  if (status.ok()) return reservation;
  (void)client_->Abort(*reservation);
  return status;
}

absl::Status FileStore::CommitManifest(const std::string& name, ReservationHandle reservation) {
  auto results =
      client_->Commit({.model = manifests_,
                       .reservation = reservation,
                       .chunks = {{.chunk = 0, .key = ManifestKey(name), .token_count = 1}}});
  if (results.ok() && results->front() != CommitResult::kAlreadyExists) return absl::OkStatus();
  (void)client_->Abort(reservation);
  if (!results.ok()) return results.status();
  return absl::AlreadyExistsError(absl::StrCat("something is stored as \"", name,
                                               "\" already: --replace puts this in its place"));
}

absl::Status FileStore::WriteManifest(const std::string& name, const Manifest& manifest,
                                      const std::optional<Manifest>& old) {
  // All that needs room comes before the old manifest goes: a name has one key, and a key one
  // chunk.
  auto reservation = UploadManifest(manifest);
  if (!reservation.ok()) return reservation.status();
  if (old) {
    absl::Status status = client_->Forget(manifests_, {ManifestKey(name)}).status();
    if (!status.ok() && !absl::IsNotFound(status)) {
      (void)client_->Abort(*reservation);
      return status;
    }
  }
  absl::Status status = CommitManifest(name, *reservation);
  if (!status.ok() && old && !absl::IsAlreadyExists(status)) {
    auto again = UploadManifest(*old);
    if (again.ok()) (void)CommitManifest(name, *again);
  }
  return status;
}

absl::StatusOr<Model> FileStore::DataModel(uint64_t chunk_bytes) {
  return client_->RegisterModel(GeometryOf(model_name_, "bytes", chunk_bytes));
}

std::vector<Key> FileStore::ChainKeys(const Model& model, const std::string& upload, uint64_t first,
                                      uint64_t chunk_count) {
  std::vector<Key> keys;
  keys.reserve(chunk_count);
  Key parent{};
  for (uint64_t i = 0; i < chunk_count; ++i) {
    if (i % kChainChunks == 0) parent = Key{};
    parent = model.OpaqueKey(parent, absl::StrCat("data:", upload, ":", first + i));
    keys.push_back(parent);
  }
  return keys;
}

absl::Status FileStore::ForgetChunks(const Manifest& manifest) {
  auto model = DataModel(manifest.chunk_bytes);
  if (!model.ok()) return model.status();
  for (uint64_t first = 0; first < manifest.chunk_count(); first += kChainChunks) {
    // The rest of a prefix goes with its first chunk.
    absl::Status status =
        client_->Forget(*model, ChainKeys(*model, manifest.upload, first, 1)).status();
    if (!status.ok() && !absl::IsNotFound(status)) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> FileStore::PresentChunks(const Manifest& manifest) {
  auto model = DataModel(manifest.chunk_bytes);
  if (!model.ok()) return model.status();
  uint64_t present = 0;
  for (uint64_t first = 0; first < manifest.chunk_count(); first += kChainChunks) {
    const uint64_t count = std::min(kChainChunks, manifest.chunk_count() - first);
    auto match = client_->Lookup({.model = *model,
                                  .keys = ChainKeys(*model, manifest.upload, first, count),
                                  .lease = false});
    if (!match.ok()) return match.status();
    present += match->chunks;
    if (match->chunks < count) break;  // a file that is not whole is of no use
  }
  return present;
}

}  // namespace kvtier::cli
