// What the top of proto/kvtier/v1/kv_cache.proto promises to those who do without the client
// library: the calls in their order, names without keys, and the checksum as it is described there,
// written down here a second time.
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/daemon_fixture.h"

namespace kvtier::test_support {
namespace {

constexpr uint32_t kChunks = 3;
constexpr size_t kBlockBytes = 10000;  // not a multiple of 4096

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t Checksum(const std::string& block) {
  uint64_t sum = Mix(block.size() ^ 0x6b767469657231);
  for (uint64_t i = 0; i * 4096 < block.size(); ++i) {
    const size_t bytes = std::min<size_t>(4096, block.size() - i * 4096);
    sum += Mix(XXH3_64bits(block.data() + i * 4096, bytes) ^ Mix((i + 1) * 0x9e3779b97f4a7c15));
  }
  return sum;
}

std::string Block(uint32_t chunk) {
  std::string bytes(kBlockBytes, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + chunk * 31 + 1);
  return bytes;
}

class PlainGrpcTest : public DaemonTest {};

TEST_F(PlainGrpcTest, WritesAndReadsInTheDocumentedOrder) {
  StartDaemon();
  const auto kv = v1::KvCache::NewStub(
      grpc::CreateChannel("unix:" + socket(), grpc::InsecureChannelCredentials()));
  // One call; its context can be used once.
  const auto call = [&](auto method, const auto& request, auto& reply) {
    grpc::ClientContext context;
    const grpc::Status status = (kv.get()->*method)(&context, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
  };
  const auto name = [](uint32_t chunk) {
    v1::ChunkName result;
    result.mutable_opaque()->set_engine_key(absl::StrCat("prefix up to ", chunk));
    return result;
  };

  v1::AttachRequest attach;
  attach.mutable_version()->set_major(1);
  attach.set_pid(getpid());
  v1::AttachReply attached;
  call(&v1::KvCache::Stub::Attach, attach, attached);
  const uint64_t session = attached.session_id();
  EXPECT_TRUE(attached.bound_to_process());
  EXPECT_GT(attached.message_bytes_max(), kBlockBytes);

  v1::HeartbeatRequest heartbeat;
  heartbeat.set_session_id(session);
  v1::HeartbeatReply alive;
  call(&v1::KvCache::Stub::Heartbeat, heartbeat, alive);

  v1::RegisterModelRequest model;
  model.set_session_id(session);
  model.mutable_model()->set_name("plain");
  model.mutable_model()->set_chunk_tokens(16);
  v1::Plane* plane = model.mutable_model()->add_planes();
  plane->set_name("kv");
  plane->set_kind(v1::PLANE_KIND_ATTENTION);
  plane->set_rank(-1);
  plane->set_bytes_per_chunk(kBlockBytes);
  plane->set_required(true);
  v1::RegisterModelReply registered;
  call(&v1::KvCache::Stub::RegisterModel, model, registered);

  v1::ReserveRequest reserve;
  reserve.set_session_id(session);
  reserve.set_model_id(registered.model_id());
  reserve.set_chunk_count(kChunks);
  v1::ReserveReply reserved;
  call(&v1::KvCache::Stub::Reserve, reserve, reserved);

  grpc::ClientContext store_context;
  v1::StoreReply stored;
  const auto writer = kv->Store(&store_context, &stored);
  v1::CommitRequest commit;
  commit.set_session_id(session);
  commit.set_reservation_id(reserved.reservation_id());
  for (uint32_t i = 0; i < kChunks; ++i) {
    v1::StoreRequest piece;
    piece.set_session_id(session);
    piece.set_reservation_id(reserved.reservation_id());
    piece.set_chunk(i);
    piece.set_data(Block(i));
    EXPECT_TRUE(writer->Write(piece));
    v1::CommitChunk* chunk = commit.add_chunks();
    chunk->set_chunk(i);
    *chunk->mutable_name() = name(i);
    chunk->set_token_count(16);
    chunk->add_checksums(Checksum(Block(i)));
  }
  writer->WritesDone();
  EXPECT_TRUE(writer->Finish().ok());
  EXPECT_EQ(stored.stored_bytes(), kChunks * kBlockBytes);
  v1::CommitReply committed;
  call(&v1::KvCache::Stub::Commit, commit, committed);
  ASSERT_EQ(committed.chunks_size(), static_cast<int>(kChunks));
  for (const auto& chunk : committed.chunks())
    EXPECT_EQ(chunk.outcome(), v1::CommitReply::COMMITTED) << chunk.error();

  v1::LookupRequest lookup;
  lookup.set_session_id(session);
  lookup.set_model_id(registered.model_id());
  lookup.set_lease(true);
  for (uint32_t i = 0; i <= kChunks; ++i) *lookup.add_names() = name(i);
  v1::LookupReply found;
  call(&v1::KvCache::Stub::Lookup, lookup, found);
  EXPECT_EQ(found.matched(), kChunks);

  v1::FetchRequest fetch;
  fetch.set_session_id(session);
  fetch.set_lease_id(found.lease_id());
  grpc::ClientContext fetch_context;
  const auto reader = kv->Fetch(&fetch_context, fetch);
  std::map<uint32_t, std::string> blocks;
  v1::FetchReply piece;
  while (reader->Read(&piece)) {
    EXPECT_EQ(piece.code(), 0) << piece.error();
    std::string& block = blocks[piece.chunk()];
    EXPECT_EQ(piece.offset(), block.size());
    block += piece.data();
    if (piece.last()) {
      EXPECT_EQ(piece.checksum(), Checksum(block));
    }
  }
  EXPECT_TRUE(reader->Finish().ok());
  ASSERT_EQ(blocks.size(), kChunks);
  for (const auto& [chunk, block] : blocks) EXPECT_EQ(block, Block(chunk)) << chunk;

  v1::ReleaseRequest release;
  release.set_session_id(session);
  release.add_lease_ids(found.lease_id());
  v1::ReleaseReply released;
  call(&v1::KvCache::Stub::Release, release, released);
  EXPECT_EQ(released.released(), 1u);

  v1::DetachRequest detach;
  detach.set_session_id(session);
  v1::DetachReply detached;
  call(&v1::KvCache::Stub::Detach, detach, detached);
  const v1::StatusReply status = daemon().Status();
  EXPECT_EQ(status.sessions() + status.leases() + status.reservations(), 0u);
  EXPECT_EQ(status.chunks(), kChunks);
}

}  // namespace
}  // namespace kvtier::test_support
