// What a process gets over the attach socket, and what it does not: a raw client asks a real daemon
// for memory in every wrong way, and tries every way of writing to what it was given for reading,
// as root and as another user. What it does never costs the daemon a descriptor.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "proto/wire/attach_messages.h"
#include "tests/integration/attach_fixture.h"
#include "tests/support/in_place_blocks.h"
#include "tests/support/raw_shared_client.h"
#include "tests/support/status_matchers.h"
#include "tests/support/ways_to_write.h"

namespace kvtier::test_support {
namespace {

using ::testing::HasSubstr;
using wire::SegmentAccess;

constexpr uid_t kAnna = 60'001;
constexpr const char* kTenants = R"(tenants:
  - {name: ops, uids: [0], admin: true}
  - {name: anna, uids: [60001]}
)";

// Connects as another user for as long as it lives; the kernel notes who connects.
class AsUser {
 public:
  explicit AsUser(uid_t uid) { EXPECT_EQ(seteuid(uid), 0); }
  ~AsUser() { EXPECT_EQ(seteuid(0), 0); }
  AsUser(const AsUser&) = delete;
  AsUser& operator=(const AsUser&) = delete;
};

// What a child of user `uid` can do with a descriptor that it was handed; all ways when the child
// itself fails.
uint32_t WaysToWriteAs(uid_t uid, int fd, size_t bytes) {
  int answer[2];
  EXPECT_EQ(pipe2(answer, O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    if (setresuid(uid, uid, uid) != 0) _exit(1);
    const uint32_t ways = WaysToWrite(fd, bytes);
    _exit(write(answer[1], &ways, sizeof ways) == sizeof ways ? 0 : 1);
  }
  close(answer[1]);
  uint32_t ways = ~0u;
  if (read(answer[0], &ways, sizeof ways) != sizeof ways) ways = ~0u;
  close(answer[0]);
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  return ways;
}

using AttachSocketTest = AttachTest;

TEST_F(AttachSocketTest, HandsOutAnIndexAndAPage) {
  Start();
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  EXPECT_EQ(client->session->attach_socket(), socket() + ".shm");
  EXPECT_EQ(client->header().magic, wire::kIndexMagic);
  EXPECT_EQ(client->header().major, wire::kIndexMajor);
  EXPECT_EQ(client->header().daemon_epoch, client->session->daemon_epoch());
  EXPECT_EQ(client->header().total_bytes, client->channel.index_bytes());
  EXPECT_EQ(client->client_page().magic, wire::kClientPageMagic);
  EXPECT_NE(fcntl(client->channel.index_fd(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(WaysToWrite(client->channel.page_fd(), wire::kClientPageBytes) &
                (kShrink | kGrow | kTruncateByOpening),
            0u);
}

TEST_F(AttachSocketTest, IsNotThereWhereItIsTurnedOff) {
  Start("listen: {shared_memory: false}\n");
  const auto session = RawSession::Attach(socket(), getpid());
  ASSERT_NE(session, nullptr);
  EXPECT_EQ(session->attach_socket(), "");
  RawChannel channel;
  EXPECT_FALSE(channel.Connect(socket() + ".shm"));
  EXPECT_TRUE(session->StoreChunk("a", RawBlock(1)));
  EXPECT_EQ(session->Lookup("a").rows_size(), 0);
}

TEST_F(AttachSocketTest, NobodyWritesToWhatIsForReading) {
  Start();
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  const std::string bytes = RawBlock(1);
  const auto inbox = BlockInPlace::Write(*client, "in place", bytes);
  ASSERT_NE(inbox, nullptr);
  ASSERT_TRUE(client->session->StoreChunk("stored", RawBlock(2)));
  const v1::LookupReply stored = client->session->Lookup("stored");
  ASSERT_EQ(stored.rows_size(), 1);
  const wire::ResidencyWord stored_word = client->WordOf(stored.rows(0));
  ASSERT_TRUE(stored_word.valid());
  EXPECT_FALSE(stored_word.pool() == inbox->word.pool() &&
               stored_word.segment() == inbox->word.segment());

  const int written_fd = dup(client->channel.segment_fd());
  ASSERT_EQ(client->channel.Segment(inbox->word, SegmentAccess::kRead), 0u) << client->channel.text;
  const int inbox_fd = dup(client->channel.segment_fd());
  const uint64_t segment_bytes = client->channel.segment().segment_bytes;
  ASSERT_EQ(client->channel.Segment(stored_word, SegmentAccess::kRead), 0u) << client->channel.text;
  const int pool_fd = client->channel.segment_fd();
  const RawMapping read(pool_fd, segment_bytes, false);
  ASSERT_NE(read.get(), nullptr);
  const std::string second = RawBlock(2);
  EXPECT_EQ(std::memcmp(read.get() + stored_word.slot() * client->channel.segment().slot_bytes,
                        second.data(), second.size()),
            0);

  const struct {
    const char* name;
    int fd;
    uint64_t bytes;
  } all[] = {{"index", client->channel.index_fd(), client->channel.index_bytes()},
             {"pool segment", pool_fd, segment_bytes},
             {"sealed inbox", inbox_fd, segment_bytes},
             {"sealed inbox, by its writer's descriptor", written_fd, segment_bytes}};
  for (const auto& memory : all) {
    EXPECT_EQ(WaysToWrite(memory.fd, memory.bytes), 0u) << memory.name;
    if (geteuid() == 0) {
      EXPECT_EQ(WaysToWriteAs(0, memory.fd, memory.bytes), 0u) << memory.name;
      EXPECT_EQ(WaysToWriteAs(kAnna, memory.fd, memory.bytes), 0u) << memory.name;
    }
  }
  close(written_fd);
  close(inbox_fd);
  std::string fetched;
  const v1::LookupReply found = client->session->Lookup("in place");
  EXPECT_EQ(client->session->Fetch(found.lease_id(), fetched), 0);
  EXPECT_EQ(fetched, bytes);
  if (geteuid() != 0) GTEST_SKIP() << "as another user only where the test is root";
}

TEST_F(AttachSocketTest, AnInboxIsForOneWriterOnceAndForReadersAfterwards) {
  Start();
  const auto writer = Attach();
  const auto reader = Attach();
  ASSERT_TRUE(writer != nullptr && reader != nullptr);
  v1::ReserveReply reserved;
  ASSERT_TRUE(writer->session->Reserve(1, true, reserved).ok());
  ASSERT_EQ(reserved.words_size(), 1);
  const wire::ResidencyWord word(reserved.words(0));
  EXPECT_EQ(reader->channel.Segment(word, SegmentAccess::kRead),
            Code(absl::StatusCode::kUnavailable));
  EXPECT_EQ(reader->channel.Segment(word, SegmentAccess::kWrite),
            Code(absl::StatusCode::kFailedPrecondition));
  ASSERT_EQ(writer->channel.Segment(word, SegmentAccess::kWrite), 0u) << writer->channel.text;
  EXPECT_EQ(reader->channel.Segment(word, SegmentAccess::kRead),
            Code(absl::StatusCode::kUnavailable))
      << "it is not sealed yet";
  const RawMapping mapped(writer->channel.segment_fd(), writer->channel.segment().segment_bytes,
                          true);
  ASSERT_NE(mapped.get(), nullptr);
  ASSERT_EQ(writer->channel.Mapped(word), 0u);
  EXPECT_EQ(writer->channel.Segment(word, SegmentAccess::kWrite),
            Code(absl::StatusCode::kFailedPrecondition))
      << "a second time";
  ASSERT_EQ(reader->channel.Segment(word, SegmentAccess::kRead), 0u) << reader->channel.text;
  EXPECT_EQ(WaysToWrite(reader->channel.segment_fd(), reader->channel.segment().segment_bytes), 0u);
  // Another use of the segment, and numbers of nothing.
  const wire::ResidencyWord later(word.copy_bits(), word.incarnation() + 1);
  EXPECT_EQ(reader->channel.Segment(later, SegmentAccess::kRead),
            Code(absl::StatusCode::kNotFound));
  EXPECT_EQ(reader->channel.Segment(wire::ResidencyWord(0xefffffffu, 1), SegmentAccess::kRead),
            Code(absl::StatusCode::kNotFound));
  EXPECT_EQ(reader->channel.Segment(wire::ResidencyWord(0xffffffffu, 1), SegmentAccess::kRead),
            Code(absl::StatusCode::kInvalidArgument));
  // What the daemon writes is nobody's to write.
  ASSERT_TRUE(writer->session->StoreChunk("stored", RawBlock(2)));
  const wire::ResidencyWord stored = reader->WordOf(writer->session->Lookup("stored").rows(0));
  EXPECT_EQ(writer->channel.Segment(stored, SegmentAccess::kWrite),
            Code(absl::StatusCode::kFailedPrecondition));
}

TEST_F(AttachSocketTest, AWriterThatLocksTheSealsPublishesNothing) {
  Start();
  const auto writer = Attach();
  ASSERT_NE(writer, nullptr);
  v1::ReserveReply reserved;
  ASSERT_TRUE(writer->session->Reserve(1, true, reserved).ok());
  ASSERT_EQ(reserved.words_size(), 1);
  const wire::ResidencyWord word(reserved.words(0));
  ASSERT_EQ(writer->channel.Segment(word, SegmentAccess::kWrite), 0u) << writer->channel.text;
  ASSERT_EQ(fcntl(writer->channel.segment_fd(), F_ADD_SEALS, F_SEAL_SEAL), 0);
  EXPECT_EQ(writer->channel.Mapped(word), RawChannel::kClosed);
  const v1::CommitReply::Chunk committed =
      writer->session->Commit(reserved.reservation_id(), 0, "a", RawBlock(1));
  EXPECT_EQ(committed.outcome(), v1::CommitReply::FAILED);
  EXPECT_EQ(writer->session->Lookup("a").matched(), 0u);
}

TEST_F(AttachSocketTest, HolesThatAWriterPunchesAreFilledBeforeAnybodyReads) {
  Start();
  const auto writer = Attach();
  ASSERT_NE(writer, nullptr);
  v1::ReserveReply reserved;
  ASSERT_TRUE(writer->session->Reserve(1, true, reserved).ok());
  ASSERT_EQ(reserved.words_size(), 1);
  const wire::ResidencyWord word(reserved.words(0));
  ASSERT_EQ(writer->channel.Segment(word, SegmentAccess::kWrite), 0u) << writer->channel.text;
  const auto bytes = static_cast<off_t>(writer->channel.segment().segment_bytes);
  const int fd = writer->channel.segment_fd();
  ASSERT_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes), 0);
  ASSERT_EQ(writer->channel.Mapped(word), 0u);
  struct stat filled;
  ASSERT_EQ(fstat(fd, &filled), 0);
  EXPECT_EQ(filled.st_blocks * 512, bytes);
}

TEST_F(AttachSocketTest, AnotherTenantGetsNothing) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to connect as another user";
  Start(kTenants);
  const auto ops = Attach();
  ASSERT_NE(ops, nullptr);
  const auto inbox = BlockInPlace::Write(*ops, "in place", RawBlock(1));
  ASSERT_NE(inbox, nullptr);
  const auto unbound = RawSession::Attach(socket(), 0);
  ASSERT_NE(unbound, nullptr);
  std::unique_ptr<RawClient> anna;
  {
    const AsUser user(kAnna);
    anna = Attach();
    RawChannel channel;
    ASSERT_TRUE(channel.Connect(socket() + ".shm"));
    EXPECT_EQ(channel.Hello(unbound->id(), unbound->daemon_epoch()),
              Code(absl::StatusCode::kNotFound))
        << channel.text;
  }
  ASSERT_NE(anna, nullptr);
  EXPECT_EQ(anna->channel.Segment(inbox->word, SegmentAccess::kRead),
            Code(absl::StatusCode::kNotFound));
  EXPECT_EQ(anna->channel.Segment(inbox->word, SegmentAccess::kWrite),
            Code(absl::StatusCode::kNotFound));
  struct stat mine, theirs;
  ASSERT_EQ(fstat(anna->channel.index_fd(), &mine), 0);
  ASSERT_EQ(fstat(ops->channel.index_fd(), &theirs), 0);
  EXPECT_NE(mine.st_ino, theirs.st_ino);
  EXPECT_NE(anna->header().hash_seed, ops->header().hash_seed);
  bool dropped = true;
  EXPECT_EQ(
      anna->session->CheckBlock(ops->session->Lookup("in place").rows(0), inbox->word, dropped)
          .error_code(),
      grpc::StatusCode::NOT_FOUND);
  RawChannel stranger;
  {
    const AsUser user(60'003);
    ASSERT_TRUE(stranger.Connect(socket() + ".shm"));
  }
  EXPECT_EQ(stranger.Hello(unbound->id(), unbound->daemon_epoch()), RawChannel::kClosed);
}

TEST_F(AttachSocketTest, RefusalsSayWhy) {
  Start();
  const auto session = RawSession::Attach(socket(), getpid());
  ASSERT_NE(session, nullptr);
  const auto refuse = [&](auto change, absl::StatusCode code, const std::string& what) {
    wire::HelloRequest hello;
    hello.session_id = session->id();
    hello.daemon_epoch = session->daemon_epoch();
    change(hello);
    RawChannel channel;
    ASSERT_TRUE(channel.Connect(session->attach_socket()));
    EXPECT_EQ(channel.Hello(hello), Code(code)) << channel.text;
    EXPECT_THAT(channel.text, HasSubstr(what));
    EXPECT_EQ(channel.index_fd(), -1);
    EXPECT_EQ(channel.Hello(hello), RawChannel::kClosed) << "once is all";
  };
  refuse([](wire::HelloRequest& h) { h.magic ^= 1; }, absl::StatusCode::kInvalidArgument, "magic");
  refuse([](wire::HelloRequest& h) { h.major = 7; }, absl::StatusCode::kFailedPrecondition,
         "version 7.1 of the attach protocol, this daemon 1.1");
  refuse([](wire::HelloRequest& h) { h.daemon_epoch ^= 1; }, absl::StatusCode::kFailedPrecondition,
         "another daemon");
  refuse([](wire::HelloRequest& h) { h.session_id = 4711; }, absl::StatusCode::kNotFound, "4711");
  // A session that is bound to another process.
  const pid_t child = fork();
  if (child == 0) {
    RawChannel channel;
    if (!channel.Connect(session->attach_socket())) _exit(1);
    const uint32_t code = channel.Hello(session->id(), session->daemon_epoch());
    _exit(code == Code(absl::StatusCode::kPermissionDenied) ? 0 : 2);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  // One client a session.
  RawChannel first;
  ASSERT_TRUE(first.Connect(session->attach_socket()));
  ASSERT_EQ(first.Hello(session->id(), session->daemon_epoch()), 0u) << first.text;
  refuse([](wire::HelloRequest&) {}, absl::StatusCode::kFailedPrecondition, "already");
}

TEST_F(AttachSocketTest, WhatBreaksTheProtocolIsClosedAndLeavesNothing) {
  Start();
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  const size_t files = FilesAfter(*client);
  const std::string before = daemon().OpenFiles();
  wire::HelloRequest hello;
  hello.session_id = 4711;
  hello.daemon_epoch = client->session->daemon_epoch();
  const wire::SegmentRequest segment;
  const wire::SegmentMapped mapped;
  std::vector<char> large(100'000, 'x');
  std::memcpy(large.data(), &hello, sizeof hello);
  std::vector<int> fds(200, STDERR_FILENO);
  const struct {
    const void* packet;
    size_t bytes;
    size_t fds;
  } wrong[] = {{&hello, 3, 0},
               {&hello, sizeof hello - 1, 0},
               {large.data(), sizeof hello + 1, 0},
               {large.data(), large.size(), 0},
               {large.data() + 1000, 64, 0},
               {&hello, 0, 0},
               {&segment, sizeof segment, 0},
               {&mapped, sizeof mapped, 0},
               {&hello, sizeof hello, 1},
               {&hello, sizeof hello, fds.size()},
               {&segment, sizeof segment, 1}};
  for (const auto& one : wrong) {
    RawChannel channel;
    ASSERT_TRUE(channel.Connect(client->session->attach_socket()));
    ASSERT_TRUE(channel.Send(one.packet, one.bytes, absl::MakeConstSpan(fds).first(one.fds)));
    char reply[512];
    int none[4];
    size_t count = 0;
    EXPECT_EQ(channel.Receive(reply, sizeof reply, none, count), 0)
        << one.bytes << " bytes, " << one.fds << " descriptors";
  }
  // The same from a client that attached, each its last word.
  for (const bool twice : {true, false}) {
    const auto other = Attach();
    ASSERT_NE(other, nullptr);
    EXPECT_EQ(twice ? other->channel.Hello(other->session->id(), other->session->daemon_epoch())
                    : other->channel.Mapped(wire::ResidencyWord(0, 1)),
              RawChannel::kClosed);
    other->session->Detach();
  }
  EXPECT_TRUE(client->session->StoreChunk("a", RawBlock(1)));
  EXPECT_EQ(client->channel.Segment(wire::ResidencyWord(0, 1'000'000), SegmentAccess::kRead),
            Code(absl::StatusCode::kNotFound))
      << "the others are served on";
  // The two clients that attached count until this process ends: a pidfd each.
  EXPECT_TRUE(Await([&] { return daemon().Facts().open_files <= files + 2; }))
      << files << " files:\n"
      << before << "\nand now " << daemon().Facts().open_files << ":\n"
      << daemon().OpenFiles();
}

TEST_F(AttachSocketTest, ARequestIsAnsweredAfterTheLastReplyWasTaken) {
  Start();
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  const wire::SegmentRequest request{.incarnation = 1};
  ASSERT_TRUE(client->channel.Send(&request, sizeof request));
  ASSERT_TRUE(client->channel.Send(&request, sizeof request));
  pollfd closed{.fd = client->channel.fd(), .events = POLLRDHUP, .revents = 0};
  ASSERT_EQ(poll(&closed, 1, static_cast<int>(absl::ToInt64Milliseconds(kSoon))), 1);
  wire::SegmentReply reply;
  int none[4];
  size_t count = 0;
  EXPECT_EQ(client->channel.Receive(&reply, sizeof reply, none, count),
            static_cast<ssize_t>(sizeof reply));
  EXPECT_EQ(client->channel.Receive(&reply, sizeof reply, none, count), 0) << "one reply only";
}

TEST_F(AttachSocketTest, AClientThatNeverReadsIsClosed) {
  Start();
  const auto client = Attach();
  const auto other = Attach();
  ASSERT_TRUE(client != nullptr && other != nullptr);
  const size_t files = FilesAfter(*other);
  const wire::SegmentRequest request{.incarnation = 1};
  // The second one ends it; until then nothing is read.
  size_t sent = 0;
  while (sent < 100'000 && client->channel.Send(&request, sizeof request)) ++sent;
  EXPECT_LT(sent, 100'000u);
  EXPECT_TRUE(Await([&] { return daemon().Facts().open_files < files; }));
  EXPECT_EQ(other->channel.Segment(wire::ResidencyWord(0, 1'000'000), SegmentAccess::kRead),
            Code(absl::StatusCode::kNotFound));
  // Who connects and says nothing costs the others nothing either.
  std::vector<std::unique_ptr<RawChannel>> silent;
  for (int i = 0; i < 50; ++i) {
    silent.push_back(std::make_unique<RawChannel>());
    ASSERT_TRUE(silent.back()->Connect(client->session->attach_socket()));
  }
  EXPECT_EQ(other->channel.Segment(wire::ResidencyWord(0, 1'000'000), SegmentAccess::kRead),
            Code(absl::StatusCode::kNotFound));
  silent.clear();
  EXPECT_TRUE(Await([&] { return daemon().Facts().open_files < files; }));
}

}  // namespace
}  // namespace kvtier::test_support
