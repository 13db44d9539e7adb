// A daemon that is spoken to by plain gRPC, and wrongly: ids of others and of nothing, numbers out
// of range, streams that are cut, out of order, too long or too short. Each gets an error that
// names what is wrong; afterwards nothing is left behind, and the daemon serves as before. And a
// watch that lost its place.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/wire/checksum.h"
#include "proto/wire/version.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using ::testing::AnyOf;
using ::testing::Eq;
using ::testing::HasSubstr;
using Code = grpc::StatusCode;

class MalformedRequestsTest : public ClientTest {
 protected:
  void SetUp() override {
    Start(SmallConfig("limits: {events_kept: 8}\n"));
    if (HasFatalFailure()) return;
    session_ = Attach();
    other_session_ = Attach();
  }
  void TearDown() override {
    // Whatever was asked for wrongly: nothing is left, and the daemon serves.
    Detach(session_);
    Detach(other_session_);
    const std::vector<Key> keys = ChainKeys(model_, 99, 2);
    EXPECT_THAT(StoreChunks(*client_, model_, {.keys = keys, .count = 2}), IsOk());
    ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, keys));
    EXPECT_EQ(read, 2u);
    EXPECT_THAT(client_->Forget(model_, {keys[0]}), IsOk());
    EXPECT_TRUE(Await([&] { return daemon().UsedBytes() == 0; })) << daemon().UsedBytes();
    const v1::StatusReply status = daemon().Status();
    EXPECT_EQ(status.chunks(), 0u);
    EXPECT_EQ(status.leases(), 0u);
    EXPECT_EQ(status.reservations(), 0u);
    ClientTest::TearDown();
  }
  uint64_t Attach() {
    v1::AttachRequest request;
    request.mutable_version()->set_major(wire::kProtocolMajor);
    request.mutable_version()->set_minor(wire::kProtocolMinor);
    v1::AttachReply reply;
    grpc::ClientContext context;
    EXPECT_TRUE(daemon().kv().Attach(&context, request, &reply).ok());
    return reply.session_id();
  }
  void Detach(uint64_t session) {
    v1::DetachRequest request;
    request.set_session_id(session);
    v1::DetachReply reply;
    grpc::ClientContext context;
    EXPECT_TRUE(daemon().kv().Detach(&context, request, &reply).ok());
  }
  grpc::Status Reserve(uint64_t session, uint32_t chunks, uint64_t* reservation,
                       const std::string& parent = "") {
    v1::ReserveRequest request;
    request.set_session_id(session);
    request.set_chunk_count(chunks);
    request.set_parent_key(parent);
    v1::ReserveReply reply;
    grpc::ClientContext context;
    const grpc::Status status = daemon().kv().Reserve(&context, request, &reply);
    if (reservation != nullptr) *reservation = reply.reservation_id();
    return status;
  }
  struct Piece {
    uint64_t reservation = 0;
    uint32_t chunk = 0, plane = 0;
    uint64_t offset = 0;
    std::string data;
  };
  // `cut`: the stream is broken off after the pieces.
  grpc::Status Store(uint64_t session, const std::vector<Piece>& pieces, bool cut = false) {
    grpc::ClientContext context;
    v1::StoreReply reply;
    const auto writer = daemon().kv().Store(&context, &reply);
    for (const Piece& piece : pieces) {
      v1::StoreRequest request;
      request.set_session_id(session);
      request.set_reservation_id(piece.reservation);
      request.set_chunk(piece.chunk);
      request.set_plane(piece.plane);
      request.set_offset(piece.offset);
      request.set_data(piece.data);
      if (!writer->Write(request)) break;
    }
    if (cut) {
      context.TryCancel();
    } else {
      writer->WritesDone();
    }
    return writer->Finish();
  }
  // Commits chunk 0 with the checksums of the right bytes.
  v1::CommitReply::Chunk Commit(uint64_t session, uint64_t reservation, const Key& key) {
    v1::CommitRequest request;
    request.set_session_id(session);
    request.set_reservation_id(reservation);
    v1::CommitChunk* chunk = request.add_chunks();
    chunk->mutable_name()->set_key(std::string(key.begin(), key.end()));
    chunk->set_token_count(16);
    for (uint32_t plane = 0; plane < 3; ++plane)
      chunk->add_checksums(wire::BlockChecksum(Bytes(key, plane)));
    v1::CommitReply reply;
    grpc::ClientContext context;
    const grpc::Status status = daemon().kv().Commit(&context, request, &reply);
    v1::CommitReply::Chunk result;
    if (reply.chunks_size() == 1) return reply.chunks(0);
    result.set_code(static_cast<int>(status.error_code()));
    result.set_error(status.error_message());
    return result;
  }
  std::vector<std::byte> Bytes(const Key& key, uint32_t plane) {
    return BlockBytes(key, plane, model_.geometry().planes[plane].bytes_per_chunk);
  }
  std::string Text(const Key& key, uint32_t plane) {
    const std::vector<std::byte> bytes = Bytes(key, plane);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  uint64_t session_ = 0, other_session_ = 0;
};

TEST_F(MalformedRequestsTest, IdsOfOthersAndOfNothing) {
  uint64_t reservation = 0;
  ASSERT_TRUE(Reserve(session_, 1, &reservation).ok());
  EXPECT_EQ(Reserve(session_ + 12345, 1, nullptr).error_code(), Code::NOT_FOUND);
  EXPECT_EQ(Store(session_, {{reservation + 7, 0, 0, 0, "x"}}).error_code(), Code::NOT_FOUND);
  // Of the same tenant, but another session's.
  EXPECT_EQ(Store(other_session_, {{reservation, 0, 0, 0, "x"}}).error_code(), Code::NOT_FOUND);
  const Key key = ChainKeys(model_, 1, 1)[0];
  EXPECT_EQ(Commit(other_session_, reservation, key).code(), Code::NOT_FOUND);
  for (const uint64_t lease : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    v1::FetchRequest request;
    request.set_session_id(session_);
    request.set_lease_id(lease);
    grpc::ClientContext context;
    const auto reader = daemon().kv().Fetch(&context, request);
    v1::FetchReply reply;
    EXPECT_FALSE(reader->Read(&reply));
    EXPECT_THAT(reader->Finish().error_code(),
                AnyOf(Eq(Code::NOT_FOUND), Eq(Code::INVALID_ARGUMENT)));
  }
}

TEST_F(MalformedRequestsTest, NumbersOutOfRange) {
  EXPECT_THAT(Reserve(session_, 0, nullptr).error_message(), HasSubstr("chunk_count is 0"));
  EXPECT_THAT(Reserve(session_, 70'000, nullptr).error_message(), HasSubstr("70000"));
  EXPECT_EQ(Reserve(session_, 1, nullptr, "short").error_code(), Code::INVALID_ARGUMENT);
  EXPECT_THAT(Reserve(session_, 1, nullptr, "0123456789abcdef").error_code(),
              Eq(Code::FAILED_PRECONDITION));
  for (const std::string& keys : {std::string(15, 'k'), std::string(16 * 20'000, 'k')}) {
    v1::LookupRequest request;
    request.set_session_id(session_);
    request.set_keys(keys);
    v1::LookupReply reply;
    grpc::ClientContext context;
    const grpc::Status status = daemon().kv().Lookup(&context, request, &reply);
    EXPECT_EQ(status.error_code(), Code::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), AnyOf(HasSubstr("16"), HasSubstr("20000")));
  }
}

TEST_F(MalformedRequestsTest, StreamsThatAreWrong) {
  const Key key = ChainKeys(model_, 1, 1)[0];
  uint64_t reservation = 0;
  ASSERT_TRUE(Reserve(session_, 1, &reservation).ok());
  const auto store = [&](uint32_t chunk, uint32_t plane, uint64_t offset, std::string data) {
    return Store(session_, {{reservation, chunk, plane, offset, std::move(data)}});
  };
  EXPECT_EQ(store(1, 0, 0, "x").error_code(), Code::INVALID_ARGUMENT);
  EXPECT_EQ(store(0, 3, 0, "x").error_code(), Code::INVALID_ARGUMENT);
  EXPECT_THAT(store(0, 0, 4'999, "xy").error_message(), HasSubstr("5000"));
  EXPECT_THAT(store(0, 0, ~uint64_t{0}, "xy").error_message(), HasSubstr("5000"));
  EXPECT_EQ(store(0, 0, 0, std::string(9u << 20, 'x')).error_code(), Code::RESOURCE_EXHAUSTED)
      << "a message beyond the limit";
  // Nothing but a part of it was written: the commit is refused, and can be mended.
  EXPECT_FALSE(Store(session_, {{reservation, 0, 0, 0, Text(key, 0)}}, /*cut=*/true).ok());
  EXPECT_EQ(Commit(session_, reservation, key).outcome(), v1::CommitReply::FAILED);
  // In pieces, from the end, one of them twice, one empty.
  std::vector<Piece> pieces = {{reservation, 0, 0, 5'000, ""}};
  for (uint32_t plane = 0; plane < 3; ++plane) {
    const std::string text = Text(key, plane);
    const size_t half = text.size() / 2;
    pieces.push_back({reservation, 0, plane, half, text.substr(half)});
    pieces.push_back({reservation, 0, plane, half, text.substr(half)});
    pieces.push_back({reservation, 0, plane, 0, text.substr(0, half)});
  }
  ASSERT_TRUE(Store(session_, pieces).ok());
  EXPECT_EQ(Commit(session_, reservation, key).outcome(), v1::CommitReply::COMMITTED);
  EXPECT_FALSE(store(0, 0, 0, "x").ok()) << "committed bytes never change";
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client_, model_, {&key, 1}));
  EXPECT_EQ(read, 1u);
  EXPECT_THAT(client_->Forget(model_, {key}), IsOk());
}

TEST_F(MalformedRequestsTest, StreamsCutInTheMiddleLeaveNothing) {
  const Key key = ChainKeys(model_, 1, 1)[0];
  for (int i = 0; i < 30; ++i) {
    uint64_t reservation = 0;
    ASSERT_TRUE(Reserve(session_, 2, &reservation).ok());
    (void)Store(session_, {{reservation, 0, 0, 0, Text(key, 0)}, {reservation, 1, 2, 0, "x"}},
                true);
  }
  EXPECT_EQ(daemon().Status().reservations(), 30u);
  // The end of the session, in TearDown, takes them.
}

TEST_F(MalformedRequestsTest, AWatchIsToldWhatItMissedAndGoesOnWithoutLoss) {
  const auto watch = [&](uint64_t after, size_t count) {
    std::vector<WatchEvent> events;
    EXPECT_THAT(client_->Watch(after,
                               [&](const WatchEvent& event) {
                                 events.push_back(event);
                                 return events.size() < count;
                               }),
                IsOk());
    return events;
  };
  // More than the eight events that are kept.
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const std::vector<Key> keys = ChainKeys(model_, seed, 1);
    ASSERT_THAT(StoreChunks(*client_, model_, {.keys = keys, .count = 1}), IsOk());
  }
  const std::vector<WatchEvent> late = watch(1, 2);
  ASSERT_EQ(late.size(), 2u);
  EXPECT_EQ(late[0].kind, WatchEvent::Kind::kGap);
  const uint64_t place = late[1].sequence;
  EXPECT_GT(place, 2u);
  const std::vector<WatchEvent> first = watch(place, 3);
  const std::vector<WatchEvent> second = watch(first.back().sequence, 3);
  uint64_t expected = place;
  for (const auto* events : {&first, &second}) {
    for (const WatchEvent& event : *events) EXPECT_EQ(event.sequence, ++expected);
  }
  for (uint64_t seed = 1; seed <= 12; ++seed)
    EXPECT_THAT(client_->Forget(model_, ChainKeys(model_, seed, 1)), IsOk());
}

}  // namespace
}  // namespace kvtier::test_support
