// What becomes of a client of the attach socket when something goes wrong or ends on purpose:
// memory that could not be given, mapped or filled, a socket that broke, a goodbye. A raw client
// and a real daemon, which has no descriptor left where a test says so.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <memory>
#include <string>

#include "proto/wire/attach_messages.h"
#include "tests/integration/attach_fixture.h"
#include "tests/support/in_place_blocks.h"
#include "tests/support/raw_shared_client.h"
#include "tiering/host/holder_watch.h"

namespace kvtier::test_support {
namespace {

using wire::SegmentAccess;

using AttachLifeTest = AttachTest;

TEST_F(AttachLifeTest, AnInboxThatCouldNotBeGivenIsGivenLater) {
  Start();
  const auto writer = Attach();
  ASSERT_NE(writer, nullptr);
  v1::ReserveReply reserved;
  ASSERT_TRUE(writer->session->Reserve(1, true, reserved).ok());
  ASSERT_EQ(reserved.words_size(), 1);
  const wire::ResidencyWord word(reserved.words(0));
  // The daemon has no descriptor left.
  rlimit before{}, none{};
  ASSERT_EQ(prlimit(daemon().pid(), RLIMIT_NOFILE, nullptr, &before), 0);
  none = {.rlim_cur = 1, .rlim_max = before.rlim_max};
  ASSERT_EQ(prlimit(daemon().pid(), RLIMIT_NOFILE, &none, nullptr), 0);
  EXPECT_EQ(writer->channel.Segment(word, SegmentAccess::kWrite),
            Code(absl::StatusCode::kResourceExhausted))
      << writer->channel.text;
  ASSERT_EQ(prlimit(daemon().pid(), RLIMIT_NOFILE, &before, nullptr), 0);
  // And then the client cannot map it, which it says by asking again.
  ASSERT_EQ(writer->channel.Segment(word, SegmentAccess::kWrite), 0u) << writer->channel.text;
  ASSERT_EQ(writer->channel.Segment(word, SegmentAccess::kWrite), 0u) << writer->channel.text;
  const RawMapping mapped(writer->channel.segment_fd(), writer->channel.segment().segment_bytes,
                          true);
  ASSERT_NE(mapped.get(), nullptr);
  EXPECT_EQ(writer->channel.Mapped(word), 0u);
  const std::string bytes = RawBlock(1);
  std::memcpy(mapped.get() + word.slot() * writer->channel.segment().slot_bytes, bytes.data(),
              bytes.size());
  EXPECT_EQ(writer->session->Commit(reserved.reservation_id(), 0, "a", bytes).outcome(),
            v1::CommitReply::COMMITTED);
}

TEST_F(AttachLifeTest, WhoCouldNotBeGivenAnythingIsNoClient) {
  Start("listen: {http: '127.0.0.1:0'}\n");
  rlimit before{};
  ASSERT_EQ(prlimit(daemon().pid(), RLIMIT_NOFILE, nullptr, &before), 0);
  const auto session = RawSession::Attach(socket(), getpid());
  ASSERT_NE(session, nullptr);
  const size_t open = daemon().SettledFiles();
  // The daemon has ever one descriptor more while it answers: each step of it fails once.
  int64_t attached = 0;
  for (rlim_t files = 8; files < 200 && attached == 0; ++files) {
    RawChannel channel;
    ASSERT_TRUE(channel.Connect(session->attach_socket()));
    // The connection and its process.
    ASSERT_TRUE(Await([&] { return daemon().Facts().open_files == open + 2; }))
        << open << " files before, and now:\n"
        << daemon().OpenFiles();
    const rlimit few{.rlim_cur = files, .rlim_max = before.rlim_max};
    ASSERT_EQ(prlimit(daemon().pid(), RLIMIT_NOFILE, &few, nullptr), 0);
    const uint32_t answer = channel.Hello(session->id(), session->daemon_epoch());
    ASSERT_EQ(prlimit(daemon().pid(), RLIMIT_NOFILE, &before, nullptr), 0);
    ASSERT_TRUE(answer == 0 || answer == Code(absl::StatusCode::kResourceExhausted)) << answer;
    attached = answer == 0 ? 1 : 0;
    EXPECT_EQ(daemon().Metric("kvtier_shared_clients{tenant=\"default\"}"), attached) << files;
    if (attached == 0) {
      channel.Disconnect();
      ASSERT_TRUE(Await([&] { return daemon().Facts().open_files == open; }))
          << open << " files before, and now:\n"
          << daemon().OpenFiles();
    }
  }
  EXPECT_EQ(attached, 1);
}

TEST_F(AttachLifeTest, AWriterThatSealsItsInboxItselfIsRefusedAndNothingElse) {
  Start();
  const auto writer = Attach();
  ASSERT_NE(writer, nullptr);
  v1::ReserveReply reserved;
  ASSERT_TRUE(writer->session->Reserve(1, true, reserved).ok());
  const wire::ResidencyWord word(reserved.words(0));
  ASSERT_EQ(writer->channel.Segment(word, SegmentAccess::kWrite), 0u) << writer->channel.text;
  ASSERT_EQ(fcntl(writer->channel.segment_fd(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
  EXPECT_EQ(writer->channel.Segment(word, SegmentAccess::kWrite),
            Code(absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(writer->session->StoreChunk("a", RawBlock(1)));
}

TEST_F(AttachLifeTest, OthersAreServedWhileHolesAreFilled) {
  StartDaemon(SmallConfig("", "256MiB", "64MiB"),
              {"--drain-seconds", "0", "--set", "memory.segment_bytes=64MiB"});
  ASSERT_NE(daemon_, nullptr);
  const auto other = Attach();
  ASSERT_NE(other, nullptr);
  // Of two requests that come together the short one is answered first, at least now and then.
  bool before = false;
  for (int i = 0; i < 20 && !before; ++i) {
    const auto writer = Attach();
    ASSERT_NE(writer, nullptr);
    v1::ReserveReply reserved;
    ASSERT_TRUE(Await([&] { return writer->session->Reserve(1, true, reserved).ok(); }));
    ASSERT_EQ(reserved.words_size(), 1);
    const wire::ResidencyWord word(reserved.words(0));
    ASSERT_EQ(writer->channel.Segment(word, SegmentAccess::kWrite), 0u) << writer->channel.text;
    const auto bytes = static_cast<off_t>(writer->channel.segment().segment_bytes);
    ASSERT_EQ(fallocate(writer->channel.segment_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                        bytes),
              0);
    const wire::SegmentMapped mapped{
        .pool = word.pool(), .segment = word.segment(), .incarnation = word.incarnation()};
    ASSERT_TRUE(writer->channel.Send(&mapped, sizeof mapped));
    ASSERT_EQ(other->channel.Segment(wire::ResidencyWord(0, 1'000'000), SegmentAccess::kRead),
              Code(absl::StatusCode::kNotFound));
    pollfd answer{.fd = writer->channel.fd(), .events = POLLIN, .revents = 0};
    before = poll(&answer, 1, 0) == 0;
    wire::SegmentSealed sealed;
    int none[4];
    size_t count = 0;
    ASSERT_EQ(writer->channel.Receive(&sealed, sizeof sealed, none, count),
              static_cast<ssize_t>(sizeof sealed));
    EXPECT_EQ(sealed.code, 0u);
    struct stat filled;
    ASSERT_EQ(fstat(writer->channel.segment_fd(), &filled), 0);
    EXPECT_EQ(filled.st_blocks * 512, bytes);
    writer->session->Detach();
    writer->SayGoodbye();
  }
  EXPECT_TRUE(before);
}

TEST_F(AttachLifeTest, WhoSaysGoodbyeIsGoneAndMayComeAgain) {
  Start();
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  const auto inbox = BlockInPlace::Write(*client, "a", RawBlock(1));
  ASSERT_NE(inbox, nullptr);
  v1::ReserveReply open;
  ASSERT_TRUE(client->session->Reserve(1, true, open).ok());
  ASSERT_EQ(open.words_size(), 1);
  const size_t files = daemon().SettledFiles();
  // A child has the socket as well, and holds it open.
  const int copy = dup(client->channel.fd());
  client->SayGoodbye();
  EXPECT_TRUE(Await([&] { return daemon().Facts().open_files < files; }));
  close(copy);
  RawChannel again;
  ASSERT_TRUE(again.Connect(client->session->attach_socket()));
  EXPECT_EQ(again.Hello(client->session->id(), client->session->daemon_epoch()), 0u) << again.text;
  // What it does without its memory it does to itself.
  inbox->block[0] ^= std::byte{1};
  EXPECT_EQ(again.Segment(wire::ResidencyWord(open.words(0)), SegmentAccess::kWrite),
            Code(absl::StatusCode::kFailedPrecondition))
      << "an inbox of the client that is gone";
  const v1::LookupReply found = client->session->Lookup("a");
  std::string bytes;
  EXPECT_EQ(client->session->Fetch(found.lease_id(), bytes),
            static_cast<int32_t>(absl::StatusCode::kDataLoss));
  v1::ReserveReply reserved;
  EXPECT_TRUE(client->session->Reserve(1, true, reserved).ok());
  EXPECT_EQ(again.Segment(wire::ResidencyWord(reserved.words(0)), SegmentAccess::kWrite), 0u);
}

// Else it could take a page of the machine's memory with each goodbye.
TEST_F(AttachLifeTest, WhoKeepsItsPageCountsUntilItLetsGo) {
  if (const auto watch = HolderWatch::Create(); !watch.ok())
    GTEST_SKIP() << "no inotify here: " << watch.status();
  Start("limits: {sessions_max: 2}\nlisten: {http: '127.0.0.1:0'}\n");
  const auto session = RawSession::Attach(socket(), getpid());
  ASSERT_NE(session, nullptr);
  std::deque<RawChannel> kept;
  const auto attaches = [&] {
    RawChannel& channel = kept.emplace_back();
    if (channel.Connect(session->attach_socket()) &&
        channel.Hello(session->id(), session->daemon_epoch()) == 0) {
      const wire::Goodbye goodbye;
      EXPECT_TRUE(channel.Send(&goodbye, sizeof goodbye));
      channel.Disconnect();
      EXPECT_TRUE(
          Await([&] { return daemon().Metric("kvtier_shared_clients{tenant=\"default\"}") == 0; }));
      return true;
    }
    kept.pop_back();
    return false;
  };
  while (kept.size() < 100 && attaches()) {
  }
  // Its share of sessions, and some that may be at their first request.
  EXPECT_EQ(kept.size(), 18u);
  EXPECT_FALSE(attaches());
  kept.pop_front();
  EXPECT_TRUE(Await(attaches));
  EXPECT_FALSE(attaches());
}

TEST_F(AttachLifeTest, AProcessGoesOnWithAnotherSocketAndNobodyElseDoes) {
  Start();
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  v1::ReserveReply reserved;
  ASSERT_TRUE(client->session->Reserve(1, true, reserved).ok());
  const wire::ResidencyWord word(reserved.words(0));
  ASSERT_EQ(client->channel.Segment(word, SegmentAccess::kWrite), 0u) << client->channel.text;
  const RawMapping mapped(client->channel.segment_fd(), client->channel.segment().segment_bytes,
                          true);
  ASSERT_NE(mapped.get(), nullptr);
  // The answer is lost with the socket.
  const wire::SegmentMapped done{
      .pool = word.pool(), .segment = word.segment(), .incarnation = word.incarnation()};
  ASSERT_TRUE(client->channel.Send(&done, sizeof done));
  pollfd answer{.fd = client->channel.fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&answer, 1, static_cast<int>(absl::ToInt64Milliseconds(kSoon))), 1);
  wire::HelloRequest hello;
  hello.session_id = client->session->id();
  hello.daemon_epoch = client->session->daemon_epoch();
  hello.resume = 1;
  const auto resume = [&](RawChannel& channel) {
    wire::HelloReply reply;
    int none[4];
    size_t count = 0;
    if (!channel.Connect(client->session->attach_socket()) || !channel.Send(&hello, sizeof hello) ||
        channel.Receive(&reply, sizeof reply, none, count) != sizeof reply || count != 0) {
      return RawChannel::kClosed;
    }
    return reply.code;
  };
  const pid_t child = fork();
  if (child == 0) {
    RawChannel channel;
    _exit(resume(channel) == Code(absl::StatusCode::kNotFound) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "of another process";
  hello.session_id = 4711;
  RawChannel other;
  EXPECT_EQ(resume(other), Code(absl::StatusCode::kNotFound));
  hello.session_id = client->session->id();
  client->channel.Disconnect();
  ASSERT_EQ(resume(client->channel), 0u);
  EXPECT_EQ(client->channel.Mapped(word), 0u) << "it was sealed before";
  const std::string bytes = RawBlock(1);
  std::memcpy(mapped.get() + word.slot() * client->channel.segment().slot_bytes, bytes.data(),
              bytes.size());
  EXPECT_EQ(client->session->Commit(reserved.reservation_id(), 0, "a", bytes).outcome(),
            v1::CommitReply::COMMITTED);
  // The old socket need not be closed for it, and then it is.
  RawChannel next;
  ASSERT_EQ(resume(next), 0u);
  EXPECT_EQ(client->channel.Segment(word, SegmentAccess::kRead), RawChannel::kClosed);
  EXPECT_EQ(next.Segment(word, SegmentAccess::kRead), 0u) << next.text;
}

}  // namespace
}  // namespace kvtier::test_support
