// A client and a fake daemon on a socket of their own, and a model to use with them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kvtier/client.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/client/fake_daemon.h"

namespace kvtier::testing {

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() : daemon_(socket()) {}

  std::string socket() const { return directory_.path() + "/kvtierd.sock"; }

  ClientOptions Options() const {
    ClientOptions options;
    options.socket = socket();
    options.unavailable_after = absl::Seconds(1);
    return options;
  }

  // Starts the daemon and attaches.
  void Attach(ClientOptions options) {
    daemon_.Start();
    auto client = Client::Connect(std::move(options));
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }
  void Attach() { Attach(Options()); }

  // Two planes of unequal size, neither a multiple of the checksum's 4 KiB pieces.
  static ModelGeometry Geometry() {
    ModelGeometry geometry;
    geometry.name = "test";
    geometry.chunk_tokens = 4;
    geometry.planes = {{.name = "layer.0.k", .bytes_per_chunk = 20'000},
                       {.name = "layer.0.v", .layer = 0, .bytes_per_chunk = 600}};
    return geometry;
  }

  static std::string Bytes(uint32_t chunk, uint32_t plane) {
    std::string bytes(Geometry().planes[plane].bytes_per_chunk, '\0');
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<char>(i * 31 + chunk * 7 + plane * 3 + i / 256);
    }
    return bytes;
  }

  // Stores chunks 0 .. count-1 and returns their keys.
  std::vector<Key> Store(const Model& model, uint32_t count) {
    auto reservation = client_->Reserve({.model = model, .chunk_count = count});
    EXPECT_TRUE(reservation.ok()) << reservation.status();
    std::vector<std::string> bytes;
    PutRequest put{.model = model, .reservation = *reservation};
    CommitRequest commit{.model = model, .reservation = *reservation};
    std::vector<uint32_t> tokens(count * 4, 7);
    const std::vector<Key> keys = model.PrefixKeys(tokens);
    for (uint32_t chunk = 0; chunk < count; ++chunk) {
      for (uint32_t plane = 0; plane < 2; ++plane) bytes.push_back(Bytes(chunk, plane));
    }
    for (uint32_t chunk = 0; chunk < count; ++chunk) {
      for (uint32_t plane = 0; plane < 2; ++plane) {
        const std::string& block = bytes[chunk * 2 + plane];
        // Scattered over the caller's memory: three pieces of uneven size, one of them empty.
        put.blocks.push_back(
            {.chunk = chunk,
             .plane = plane,
             .pieces = {{block.data(), 77}, {nullptr, 0}, {block.data() + 77, block.size() - 77}}});
      }
      commit.chunks.push_back({.chunk = chunk, .key = keys[chunk], .token_count = 4});
    }
    const absl::Status put_status = client_->Put(put);
    EXPECT_TRUE(put_status.ok()) << put_status;
    auto results = client_->Commit(commit);
    EXPECT_TRUE(results.ok()) << results.status();
    return keys;
  }

  test_support::TempDir directory_;
  FakeDaemon daemon_;
  std::unique_ptr<Client> client_;
};

}  // namespace kvtier::testing
