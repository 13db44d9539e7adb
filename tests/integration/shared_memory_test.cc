// What hostile and dying clients of shared memory cost a real daemon and its other clients: bytes
// that are changed after their commit, pages full of garbage, processes that end in a section or
// hand their socket on. Raw clients, some in forked children; the bytes of every block are known.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/wire/section_protocol.h"
#include "tests/integration/attach_fixture.h"
#include "tests/support/in_place_blocks.h"
#include "tests/support/raw_shared_client.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

constexpr uid_t kAnna = 60'001;
constexpr const char* kTenants = R"(tenants:
  - {name: ops, uids: [0], admin: true}
  - {name: anna, uids: [60001]}
)";

// A child process that runs `run` with one end of a socket pair, and may be told and asked over the
// other. Killed and reaped with the object. Between fork and exit only system calls.
class ForkedClient {
 public:
  explicit ForkedClient(const std::function<void(int talk)>& run) {
    int pair[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(pair[0]);
      run(pair[1]);
      _exit(0);
    }
    close(pair[1]);
    talk_ = pair[0];
  }
  ~ForkedClient() {
    Kill();
    close(talk_);
  }
  ForkedClient(const ForkedClient&) = delete;
  ForkedClient& operator=(const ForkedClient&) = delete;

  // The next byte it writes; 0: none, it ended.
  char Heard() const {
    char byte = 0;
    return read(talk_, &byte, 1) == 1 ? byte : '\0';
  }
  void Tell(char byte) const { EXPECT_EQ(write(talk_, &byte, 1), 1); }
  void Kill() {
    if (pid_ < 0) return;
    kill(pid_, SIGKILL);
    EXPECT_EQ(waitpid(pid_, nullptr, 0), pid_);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
  int talk_ = -1;
};

void Say(int talk, char byte) {
  if (write(talk, &byte, 1) != 1) _exit(1);
}
char Hear(int talk) {
  char byte = 0;
  if (read(talk, &byte, 1) != 1) _exit(1);
  return byte;
}

// In a child: attaches a session that is bound to no process; returns its page.
wire::ClientPage* AttachInChild(RawChannel& channel, const RawSession& session) {
  if (!channel.Connect(session.attach_socket())) _exit(2);
  if (channel.Hello(session.id(), session.daemon_epoch()) != 0) _exit(3);
  std::byte* page = MapWhole(channel.page_fd(), wire::kClientPageBytes, true);
  if (page == nullptr) _exit(4);
  return reinterpret_cast<wire::ClientPage*>(page);
}

// A section as old as one can be.
void OpenSection(wire::ClientPage& page, size_t place) {
  wire::EnterSection(std::atomic<uint64_t>(wire::kFirstEpoch), page, place);
}

class SharedMemoryTest : public AttachTest {
 protected:
  uint64_t Counter(const std::string& name) {
    const v1::StatusReply status = daemon().Status();
    const auto found = status.counters().find(name);
    EXPECT_NE(found, status.counters().end()) << name;
    return found == status.counters().end() ? 0 : found->second;
  }
  uint64_t RetiredBytes() {
    uint64_t retired = 0;
    const v1::PoolsReply pools = daemon().Pools();
    for (const v1::PoolsReply::Pool& pool : pools.pools()) retired += pool.retired_bytes();
    return retired;
  }
  // Of the tenant's slots, those included that wait for readers.
  uint64_t UsedBytes(const std::string& tenant) {
    uint64_t used = 0;
    const v1::PoolsReply pools = daemon().Pools();
    for (const v1::PoolsReply::Pool& pool : pools.pools()) {
      for (const auto& of : pool.tenants()) used += of.name() == tenant ? of.used_bytes() : 0;
    }
    return used;
  }
  // Of a row's one block where it lies, read in a section; empty where it cannot be.
  static std::string BytesInPlace(RawClient& client, uint64_t row) {
    std::atomic<uint64_t>& section = client.client_page().sections[0].section;
    wire::EnterSection(client.header().retire_epoch, client.client_page(), 0);
    const wire::ResidencyWord word = client.WordOf(row);
    RawChannel& channel = client.channel;
    EXPECT_EQ(channel.Segment(word, wire::SegmentAccess::kRead), 0u) << channel.text;
    const wire::SegmentReply& segment = channel.segment();
    const RawMapping mapping(channel.segment_fd(), segment.segment_bytes, false);
    std::string bytes;
    if (mapping.get() != nullptr) {
      bytes.assign(reinterpret_cast<const char*>(mapping.get()) + word.slot() * segment.slot_bytes,
                   RawSession::kBlockBytes);
    }
    wire::LeaveSection(section);
    return bytes;
  }
  // A block that its writer changes after the commit.
  std::unique_ptr<BlockInPlace> WriteAndChange(RawClient& client, const std::string& name) {
    auto block = BlockInPlace::Write(client, name, RawBlock(1));
    if (block != nullptr) block->block[12'345] ^= std::byte{1};
    return block;
  }
};

TEST_F(SharedMemoryTest, ChangedBytesAreNeverServedByAStream) {
  Start();
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  const auto block = WriteAndChange(*client, "a");
  ASSERT_NE(block, nullptr);
  const v1::LookupReply found = client->session->Lookup("a");
  ASSERT_EQ(found.matched(), 1u);
  std::string bytes;
  EXPECT_EQ(client->session->Fetch(found.lease_id(), bytes),
            static_cast<int32_t>(absl::StatusCode::kDataLoss));
  EXPECT_EQ(bytes, "");
  EXPECT_EQ(Counter("corrupt_copies"), 1u);
  EXPECT_EQ(Counter("lost_blocks"), 1u);
  client->session->Release(found.lease_id());
  EXPECT_EQ(client->session->Lookup("a").matched(), 0u) << "dropped";
}

TEST_F(SharedMemoryTest, AReaderThatFindsChangedBytesIsNotBelievedButChecked) {
  Start();
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  const auto block = BlockInPlace::Write(*client, "a", RawBlock(1));
  ASSERT_NE(block, nullptr);
  const v1::LookupReply found = client->session->Lookup("a");
  ASSERT_EQ(found.rows_size(), 1);
  EXPECT_EQ(client->WordOf(found.rows(0)), block->word);
  bool dropped = true;
  ASSERT_TRUE(client->session->CheckBlock(found.rows(0), block->word, dropped).ok());
  EXPECT_FALSE(dropped);
  EXPECT_EQ(Counter("corrupt_copies"), 0u);
  block->block[0] ^= std::byte{1};
  ASSERT_TRUE(client->session->CheckBlock(found.rows(0), block->word, dropped).ok());
  EXPECT_TRUE(dropped);
  EXPECT_EQ(Counter("corrupt_copies"), 1u);
  EXPECT_EQ(client->session->CheckBlock(found.rows(0), block->word, dropped).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(client->session->CheckBlock(~0ull, wire::ResidencyWord(~0ull), dropped).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(SharedMemoryTest, AMoveFindsChangedBytes) {
  Start();
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  const auto block = WriteAndChange(*client, "a");
  ASSERT_NE(block, nullptr);
  // The pool that it is in gets smaller, so blocks leave it.
  v1::SetBudgetRequest shrink;
  shrink.set_pool(daemon().Pools().pools(static_cast<int>(block->word.pool())).name());
  shrink.set_budget_bytes(0);
  v1::SetBudgetReply reply;
  grpc::ClientContext context;
  ASSERT_TRUE(daemon().admin().SetBudget(&context, shrink, &reply).ok());
  EXPECT_TRUE(Await([&] { return Counter("corrupt_copies") == 1; }));
  EXPECT_EQ(client->session->Lookup("a").matched(), 0u) << "dropped";
}

TEST_F(SharedMemoryTest, TheScrubberFindsChangedBytesThatNobodyReads) {
  Start("", {"--set", "limits.scrub_bytes_per_second=64MiB"});
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  ASSERT_TRUE(client->session->StoreChunk("good", RawBlock(2)));
  const auto block = WriteAndChange(*client, "a");
  ASSERT_NE(block, nullptr);
  EXPECT_TRUE(Await([&] { return Counter("corrupt_copies") == 1; }));
  EXPECT_EQ(client->session->Lookup("a").matched(), 0u);
  EXPECT_EQ(client->session->Lookup("good").matched(), 1u);
}

TEST_F(SharedMemoryTest, AClosedChannelEndsNoSectionAndTheProcessesEndDoes) {
  Start();
  const auto writer = Attach();
  const auto unbound = RawSession::Attach(socket(), 0);
  ASSERT_TRUE(writer != nullptr && unbound != nullptr);
  ForkedClient child([&](int talk) {
    RawChannel channel;
    wire::ClientPage* page = AttachInChild(channel, *unbound);
    OpenSection(*page, 3);
    Say(talk, 's');
    Hear(talk);
    channel.Disconnect();
    Say(talk, 'd');
    Hear(talk);
  });
  ASSERT_EQ(child.Heard(), 's');
  ASSERT_TRUE(writer->session->StoreChunk("a", RawBlock(1)));
  ASSERT_EQ(writer->session->Forget("a"), 1u);
  ASSERT_TRUE(Await([&] { return RetiredBytes() > 0; }));
  child.Tell('d');
  ASSERT_EQ(child.Heard(), 'd');
  // Each call takes the engine through several ticks.
  for (int i = 0; i < 200; ++i) ASSERT_GT(RetiredBytes(), 0u) << "its process lives";
  child.Kill();
  EXPECT_TRUE(Await([&] { return RetiredBytes() == 0; }));
}

TEST_F(SharedMemoryTest, ASocketThatWasHandedOnCountsUntilItIsClosed) {
  Start();
  const auto writer = Attach();
  const auto unbound = RawSession::Attach(socket(), 0);
  ASSERT_TRUE(writer != nullptr && unbound != nullptr);
  pid_t heir = -1;
  {
    ForkedClient child([&](int talk) {
      RawChannel channel;
      OpenSection(*AttachInChild(channel, *unbound), 0);
      // The kernel makes the heir this test's own child when its parent ends.
      const pid_t made = fork();
      if (made == 0) {
        while (true) pause();
      }
      if (write(talk, &made, sizeof made) != sizeof made) _exit(1);
      Hear(talk);
    });
    char bytes[sizeof heir];
    for (char& byte : bytes) byte = child.Heard();
    std::memcpy(&heir, bytes, sizeof heir);
    ASSERT_GT(heir, 0);
    ASSERT_TRUE(writer->session->StoreChunk("a", RawBlock(1)));
    ASSERT_EQ(writer->session->Forget("a"), 1u);
    ASSERT_TRUE(Await([&] { return RetiredBytes() > 0; }));
  }
  for (int i = 0; i < 200; ++i) EXPECT_GT(RetiredBytes(), 0u) << "the heir has the socket";
  kill(heir, SIGKILL);
  EXPECT_EQ(waitpid(heir, nullptr, 0), heir);
  EXPECT_TRUE(Await([&] { return RetiredBytes() == 0; }));
}

TEST_F(SharedMemoryTest, ASectionThatIsOpenForTooLongGetsItsClientNothingNew) {
  Start("limits: {section_ms_max: 100}\n");
  const auto client = Attach();
  ASSERT_NE(client, nullptr);
  ASSERT_TRUE(client->session->StoreChunk("a", RawBlock(1)));
  // A lease takes no room, of which a reservation in a long section may find none.
  const auto lease = [&] {
    v1::LookupReply found;
    const grpc::Status status = client->session->Lease("a", found);
    if (status.ok()) client->session->Release(found.lease_id());
    return status.error_code();
  };
  EXPECT_EQ(lease(), grpc::StatusCode::OK);
  OpenSection(client->client_page(), 9);
  EXPECT_TRUE(Await([&] { return lease() == grpc::StatusCode::RESOURCE_EXHAUSTED; }));
  EXPECT_GT(Counter("section_limit_refusals"), 0u);
  wire::LeaveSection(client->client_page().sections[9].section);
  EXPECT_TRUE(Await([&] { return lease() == grpc::StatusCode::OK; }));
}

TEST_F(SharedMemoryTest, AThousandClientsLeaveNothing) {
  Start();
  const auto warm = Attach();
  ASSERT_NE(warm, nullptr);
  constexpr int kRounds = 5;
  constexpr int kClients = 200;
  size_t files = 0;
  ProcessFacts before;
  for (int round = 0; round <= kRounds; ++round) {
    // One connection serves them all: the attach socket is what this is about.
    std::vector<std::pair<uint64_t, uint64_t>> names;
    for (int i = 0; i < kClients; ++i) {
      v1::AttachRequest request;
      request.mutable_version()->set_major(1);
      v1::AttachReply reply;
      grpc::ClientContext context;
      ASSERT_TRUE(daemon().kv().Attach(&context, request, &reply).ok());
      names.emplace_back(reply.session_id(), reply.daemon_epoch());
    }
    if (round == 0) files = FilesAfter(*warm);
    {
      ForkedClient child([&](int talk) {
        for (const auto& [session, epoch] : names) {
          RawChannel channel;
          if (!channel.Connect(warm->session->attach_socket())) _exit(2);
          if (channel.Hello(session, epoch) != 0) _exit(3);
        }
        Say(talk, 'x');
        Hear(talk);
      });
      ASSERT_EQ(child.Heard(), 'x');
      EXPECT_GE(daemon().Facts().open_files, static_cast<size_t>(kClients));
    }
    for (const auto& name : names) {
      v1::DetachRequest request;
      request.set_session_id(name.first);
      v1::DetachReply reply;
      grpc::ClientContext context;
      ASSERT_TRUE(daemon().kv().Detach(&context, request, &reply).ok());
    }
    EXPECT_TRUE(Await([&] { return daemon().Facts().open_files <= files; }))
        << files << " files before, and now:\n"
        << daemon().OpenFiles();
    // The first round fills what the daemon keeps.
    if (round == 0) before = daemon().Facts();
  }
  const ProcessFacts after = daemon().Facts();
  // A sanitizer keeps memory that was freed.
  if (!kSanitized) {
    EXPECT_LE(after.anonymous_bytes, before.anonymous_bytes + (2 << 20));
  }
}

TEST_F(SharedMemoryTest, GarbageInAPageHarmsNobodyElse) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to connect as another user";
  Start(kTenants);
  const auto unbound = RawSession::Attach(socket(), 0);
  ASSERT_NE(unbound, nullptr);
  ASSERT_TRUE(unbound->StoreChunk("mine", RawBlock(1)));
  const uint64_t seed = TestSeed(20'261'121);
  ForkedClient vandal([&](int talk) {
    RawChannel channel;
    wire::ClientPage* const page = AttachInChild(channel, *unbound);
    // One section stays: it holds what its own tenant gives back from now on.
    page->used[0].store(1);
    page->sections[0].section.store(1);
    const size_t mark = offsetof(wire::ClientPage, used) / 8;
    const size_t kept = offsetof(wire::ClientPage, sections) / 8;
    auto* words = reinterpret_cast<std::atomic<uint64_t>*>(page);
    Rng rng(seed);
    Say(talk, 'g');
    // Random words, small ones among them, all over the page until it is killed.
    for (uint64_t done = 1;; ++done) {
      const uint64_t value = rng.Next();
      const size_t word = rng.Next() % (wire::kClientPageBytes / 8);
      if (word != mark && word != kept && word != kept + 1)
        words[word].store(value >> (value % 64));
      char asked = 0;
      if (done % 65'536 == 0 && recv(talk, &asked, 1, MSG_DONTWAIT) == 1) Say(talk, asked);
    }
  });
  ASSERT_EQ(vandal.Heard(), 'g');
  ASSERT_EQ(unbound->Forget("mine"), 1u);
  ASSERT_EQ(seteuid(kAnna), 0);
  auto anna = RawClient::Attach(socket(), getpid());
  ASSERT_EQ(seteuid(0), 0);
  ASSERT_NE(anna, nullptr);
  for (uint64_t i = 0; i < 300; ++i) {
    SCOPED_TRACE(i);
    const std::string name = absl::StrCat("chunk ", i);
    ASSERT_TRUE(anna->session->StoreChunk(name, RawBlock(i)));
    const v1::LookupReply found = anna->session->Lookup(name);
    ASSERT_EQ(found.matched(), 1u);
    ASSERT_EQ(found.rows_size(), 1);
    std::string bytes;
    ASSERT_EQ(anna->session->Fetch(found.lease_id(), bytes), 0);
    ASSERT_EQ(bytes, RawBlock(i));
    ASSERT_EQ(BytesInPlace(*anna, found.rows(0)), RawBlock(i));
    anna->session->Release(found.lease_id());
    // Nothing of hers waits for the vandal.
    if (i % 20 == 19) {
      ASSERT_GE(UsedBytes("anna"), 20 * RawSession::kBlockBytes);
      for (uint64_t old = i - 19; old <= i; ++old)
        ASSERT_EQ(anna->session->Forget(absl::StrCat("chunk ", old)), 1u) << old;
      ASSERT_TRUE(Await([&] { return UsedBytes("anna") == 0; })) << UsedBytes("anna");
    }
  }
  // It was at it all the time.
  vandal.Tell('?');
  ASSERT_EQ(vandal.Heard(), '?');
  EXPECT_GT(UsedBytes("ops"), 0u) << "its own tenant's memory waits for its section";
  EXPECT_EQ(Counter("corrupt_copies"), 0u);
  vandal.Kill();
  EXPECT_TRUE(Await([&] { return UsedBytes("ops") == 0; }));
  // Its own tenant goes on as well, once it is gone.
  v1::ReserveReply reserved;
  EXPECT_TRUE(Await([&] { return unbound->Reserve(1, false, reserved).ok(); }));
}

}  // namespace
}  // namespace kvtier::test_support
