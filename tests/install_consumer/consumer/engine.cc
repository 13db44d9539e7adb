// A program that knows of kvtier only what is installed, with the code that README.md shows.
// `engine SOCKET` prefills a prompt twice, as two clients: the second finds what the first stored.
// `engine SOCKET absent`: nobody listens there, and it expects to be told so within the stated
// bound.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#if __cplusplus < 202002L
#error "kvtier::client does not bring the language standard that its headers need"
#endif

namespace {

constexpr size_t kChunks = 5;
constexpr size_t kBlockBytes = 10000;
size_t chunks_computed = 0;

// Stands in for a model: bytes that depend on all the tokens up to the chunk's end.
void Compute(const std::vector<uint32_t>& tokens, size_t chunk, std::vector<char>& kv) {
  uint32_t state = 1;
  for (size_t i = 0; i < (chunk + 1) * 16; ++i) state = state * 1664525 + tokens[i];
  for (char& byte : kv) byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  ++chunks_computed;
}

}  // namespace

#include <kvtier/client.h>

using Kv = std::vector<std::vector<char>>;  // the KV of a prompt, a buffer for each of its chunks

// Copies what the daemon has of a prompt into `kv`; returns how many chunks that is.
uint32_t Fetch(kvtier::Client& client, const kvtier::Model& model,
               const std::vector<kvtier::Key>& keys, Kv& kv) {
  const auto match = client.Lookup({.model = model, .keys = keys});
  if (!match.ok() || match->chunks == 0) return 0;  // nothing is known, or no daemon answers
  kvtier::GetRequest get{.model = model, .lease = match->lease};
  for (uint32_t i = 0; i < match->chunks; ++i) {
    get.blocks.push_back({.chunk = i, .plane = 0, .pieces = {{kv[i].data(), kv[i].size()}}});
  }
  const auto got = client.Get(get);
  client.Release(match->lease).IgnoreError();
  return got.ok() && got->all_ok ? match->chunks : 0;
}

// Stores chunks `first` and up, which the engine has computed.
absl::Status Store(kvtier::Client& client, const kvtier::Model& model,
                   const std::vector<kvtier::Key>& keys, uint32_t first, const Kv& kv) {
  const auto count = static_cast<uint32_t>(keys.size()) - first;
  const kvtier::Key parent = first == 0 ? kvtier::Key{} : keys[first - 1];
  const auto reservation = client.Reserve({.model = model, .parent = parent, .chunk_count = count});
  if (!reservation.ok()) return reservation.status();
  kvtier::PutRequest put{.model = model, .reservation = *reservation};
  kvtier::CommitRequest commit{.model = model, .reservation = *reservation};
  for (uint32_t i = 0; i < count; ++i) {
    const std::vector<char>& block = kv[first + i];
    put.blocks.push_back({.chunk = i, .plane = 0, .pieces = {{block.data(), block.size()}}});
    commit.chunks.push_back({.chunk = i, .key = keys[first + i], .token_count = 16});
  }
  absl::Status status = client.Put(put);
  if (status.ok()) status = client.Commit(commit).status();
  if (!status.ok()) client.Abort(*reservation).IgnoreError();
  return status;
}

// `tokens` fill whole chunks of 16. An error means that they were not stored; `kv` is complete.
absl::Status Prefill(kvtier::Client& client, const std::vector<uint32_t>& tokens, Kv& kv) {
  kvtier::ModelGeometry geometry{.name = "my-model", .revision = "1", .data_type = "bf16"};
  geometry.chunk_tokens = 16;
  geometry.planes = {{.name = "kv", .bytes_per_chunk = kv[0].size()}};
  const auto model = client.RegisterModel(geometry);
  std::vector<kvtier::Key> keys;
  if (model.ok()) keys = model->PrefixKeys(tokens);
  const uint32_t known = model.ok() ? Fetch(client, *model, keys, kv) : 0;
  for (size_t i = known; i < kv.size(); ++i) Compute(tokens, i, kv[i]);  // the engine's own work
  if (!model.ok() || known == kv.size()) return model.status();
  return Store(client, *model, keys, known, kv);
}

namespace {

int Fail(const char* what, const absl::Status& status) {
  std::fprintf(stderr, "engine: %s: %s\n", what, status.ToString().c_str());
  return 1;
}

int PrefillTwice(const kvtier::ClientOptions& options) {
  std::vector<uint32_t> tokens;
  for (uint32_t i = 0; i < kChunks * 16; ++i) tokens.push_back(i * i);
  Kv first(kChunks, std::vector<char>(kBlockBytes)), second = first;
  for (Kv* kv : {&first, &second}) {
    const auto client = kvtier::Client::Connect(options);
    if (!client.ok()) return Fail("connect", client.status());
    const absl::Status status = Prefill(**client, tokens, *kv);
    if (!status.ok()) return Fail("prefill", status);
  }
  std::printf("%zu chunks computed, %s\n", chunks_computed,
              first == second ? "equal" : "DIFFERENT");
  return chunks_computed == kChunks && first == second ? 0 : 1;
}

int ExpectNobody(const kvtier::ClientOptions& options) {
  const auto client = kvtier::Client::Connect(options);
  if (client.ok()) return Fail("connect", absl::InternalError("there is no daemon to attach to"));
  std::printf("%s\n", client.status().ToString().c_str());
  const std::string message(client.status().message());
  return absl::IsUnavailable(client.status()) && message.find(options.socket) != std::string::npos
             ? 0
             : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: engine SOCKET [absent]\n");
    return 2;
  }
  kvtier::ClientOptions options;
  options.socket = argv[1];
  options.unavailable_after = absl::Seconds(argc == 3 ? 1 : 10);
  return argc == 3 ? ExpectNobody(options) : PrefillTwice(options);
}
