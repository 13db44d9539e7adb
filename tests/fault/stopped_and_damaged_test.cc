// A daemon that dies or stands still under a client, a worker that stands still over a lease, and a
// byte of a stored block that changes: calls end within the stated bound, others are not held up,
// and damage is found, dropped, counted and mended by storing again.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using enum absl::StatusCode;
using ::testing::AnyOf;

constexpr absl::Duration kBound = absl::Seconds(2);
// For a machine that is busy with other things.
constexpr absl::Duration kSlack = absl::Seconds(6);

class FaultTest : public DaemonTest {
 protected:
  // Returns once it stands: the signal alone lets it finish what it is doing.
  static void Halt(ChildProcess& process) {
    process.Signal(SIGSTOP);
    siginfo_t info;
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(process.pid()), &info, WSTOPPED), 0);
  }
  ClientOptions Bounded() {
    ClientOptions options = Options();
    options.unavailable_after = kBound;
    return options;
  }
};

TEST_F(FaultTest, ClientFailsFastAndAttachesToTheNextDaemon) {
  StartDaemon();
  const auto client = Connect(Bounded());
  ASSERT_NE(client, nullptr);
  ASSERT_OK_AND_ASSIGN(const Model model, client->RegisterModel(UnequalModel()));
  for (int round = 0; round < 10; ++round) {
    const std::vector<Key> keys = ChainKeys(model, 1, 3);
    ASSERT_THAT(StoreChunks(*client, model, {.keys = keys, .count = 3}), IsOk());
    ASSERT_OK_AND_ASSIGN(const Match match, client->Lookup({.model = model, .keys = keys}));
    ASSERT_EQ(match.chunks, 3u);
    const uint64_t epoch = client->daemon_epoch();
    daemon().Kill();
    const absl::Time began = absl::Now();
    EXPECT_THAT(client->Lookup({.model = model, .keys = keys}), StatusIs(kUnavailable));
    EXPECT_THAT(client->Reserve({.model = model}), StatusIs(kUnavailable));
    EXPECT_LT(absl::Now() - began, 2 * (kBound + kSlack));
    daemon_.reset();
    StartDaemon();
    ASSERT_THAT(client->WaitAttached(kSoon), IsOk());
    EXPECT_NE(client->daemon_epoch(), epoch);
    EXPECT_EQ(daemon().Status().chunks(), 0u);
    EXPECT_EQ(daemon().UsedBytes(), 0u);
    EXPECT_THAT(client->Release(match.lease), StatusIs(kNotFound));
    EXPECT_EQ(FactsOf(getpid()).memfd_bytes, 0u) << "a client keeps no memory of a dead daemon";
  }
}

// The daemon dies while calls of several clients are under way in it.
TEST_F(FaultTest, CallsInFlightEndWhenTheDaemonDies) {
  constexpr size_t kClients = 3;
  constexpr int kRounds = 10;
  StartDaemon();
  std::vector<std::unique_ptr<Client>> clients;
  for (size_t i = 0; i < kClients; ++i) clients.push_back(Connect(Bounded()));
  std::array<std::atomic<uint64_t>, kClients> stored{};
  std::atomic<bool> stop{false};
  std::array<std::vector<std::string>, kClients> wrong;
  const auto store = [&](size_t i, const Model& model) {
    for (uint64_t seed = 0; !stop; ++seed) {
      const std::vector<Key> keys = ChainKeys(model, seed * kClients + i, 3);
      const absl::Time began = absl::Now();
      absl::Status status = StoreChunks(*clients[i], model, {.keys = keys, .count = 3}).status();
      if (status.ok()) status = ReadChunks(*clients[i], model, keys).status();
      // Six calls at most.
      if (absl::Now() - began > 6 * (kBound + kSlack)) wrong[i].push_back("too slow");
      if (status.ok()) ++stored[i];
      // Without a daemon, or with handles and keys of the one before.
      const bool lost = absl::IsUnavailable(status) || absl::IsNotFound(status) ||
                        absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status);
      // One that is far ahead of the others fills the pools, and what could leave is still in use.
      const bool full = absl::IsResourceExhausted(status);
      if (!status.ok() && !lost && !full) wrong[i].push_back(status.ToString());
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kClients; ++i) {
    const absl::StatusOr<Model> model = clients[i]->RegisterModel(UnequalModel());
    EXPECT_THAT(model, IsOk());
    if (model.ok()) threads.emplace_back([&store, i, model] { store(i, *model); });
  }
  const auto await_more = [&] {
    std::array<uint64_t, kClients> before{};
    for (size_t i = 0; i < kClients; ++i) before[i] = stored[i];
    return Await([&] {
      for (size_t i = 0; i < kClients; ++i) {
        if (stored[i] < before[i] + 3) return false;
      }
      return true;
    });
  };
  for (int round = 0; round < kRounds && !HasFailure(); ++round) {
    EXPECT_TRUE(await_more()) << "a client stores no more, round " << round;
    daemon().Kill();
    daemon_.reset();
    StartDaemon();
  }
  EXPECT_TRUE(await_more());
  stop = true;
  for (std::thread& thread : threads) thread.join();
  for (const auto& errors : wrong) EXPECT_THAT(errors, ::testing::IsEmpty());
}

TEST_F(FaultTest, StoppedDaemonIsUnavailableWithinTheBound) {
  StartDaemon();
  const auto client = Connect(Bounded());
  ASSERT_NE(client, nullptr);
  ASSERT_OK_AND_ASSIGN(const Model model, client->RegisterModel(UnequalModel()));
  const std::vector<Key> keys = ChainKeys(model, 1, 3);
  ASSERT_THAT(StoreChunks(*client, model, {.keys = keys, .count = 3}), IsOk());
  {
    ASSERT_NO_FATAL_FAILURE(Halt(daemon().process()));
    const absl::Cleanup go_on = [&] { daemon().process().Signal(SIGCONT); };
    const absl::Time began = absl::Now();
    EXPECT_THAT(client->Lookup({.model = model, .keys = keys}), StatusIs(kUnavailable));
    EXPECT_LT(absl::Now() - began, kBound + kSlack);
  }
  // It goes on with what it had.
  EXPECT_TRUE(Await([&] {
    const absl::StatusOr<uint32_t> read = ReadChunks(*client, model, keys);
    return read.ok() && *read == 3;
  }));
}

TEST_F(FaultTest, StoppedWorkerLosesItsLeaseAndHoldsUpNobody) {
  StartDaemon(SmallConfig("limits: {session_timeout_ms: 1s, lease_ttl_ms: 500ms}\n"));
  const auto client = Connect();
  ASSERT_NE(client, nullptr);
  ASSERT_OK_AND_ASSIGN(const Model model, client->RegisterModel(RankedModel()));
  ChildProcess::Options options;
  options.arguments = {HelperPath("kill_worker"), socket(), "stream"};
  ASSERT_OK_AND_ASSIGN(const auto worker, ChildProcess::Start(options));
  ASSERT_OK_AND_ASSIGN(std::string line, worker->ReadLine(kSoon));
  ASSERT_THAT(worker->WriteLine("7 3 0"), IsOk());
  while (!absl::StartsWith(line, "leased")) {
    ASSERT_OK_AND_ASSIGN(line, worker->ReadLine(kSoon));
    if (!absl::StartsWith(line, "leased")) {
      ASSERT_THAT(worker->WriteLine("go"), IsOk());
    }
  }
  EXPECT_EQ(line, "leased 3");
  ASSERT_NO_FATAL_FAILURE(Halt(*worker));
  EXPECT_TRUE(Await([&] { return daemon().Status().leases() == 0; })) << "the lease's time is over";
  const std::vector<Key> keys = ChainKeys(model, 7, 3);
  ASSERT_OK_AND_ASSIGN(const uint32_t read, ReadChunks(*client, model, keys));
  EXPECT_EQ(read, 3u) << "another reads on";
  worker->Signal(SIGCONT);
  ASSERT_THAT(worker->WriteLine("go"), IsOk());
  ASSERT_OK_AND_ASSIGN(line, worker->ReadLine(kSoon));
  // Its lease is gone, and it is told so.
  EXPECT_THAT(line, ::testing::StartsWith("error: "));
  EXPECT_THAT(
      line, AnyOf(::testing::HasSubstr("NOT_FOUND"), ::testing::HasSubstr("FAILED_PRECONDITION")));
  // And goes on.
  ASSERT_THAT(worker->WriteLine("8 2 0"), IsOk());
  while (line != "done") {
    ASSERT_OK_AND_ASSIGN(line, worker->ReadLine(kSoon));
    ASSERT_THAT(line, ::testing::Not(::testing::StartsWith("error")));
    if (line != "done") {
      ASSERT_THAT(worker->WriteLine("go"), IsOk());
    }
  }
}

// Changes one byte of the daemon's pool memory where `pattern` begins; returns in how many places.
size_t Damage(pid_t pid, const std::vector<std::byte>& pattern) {
  const std::string_view wanted(reinterpret_cast<const char*>(pattern.data()), pattern.size());
  std::ifstream maps(absl::StrCat("/proc/", pid, "/maps"));
  const int memory = open(absl::StrCat("/proc/", pid, "/mem").c_str(), O_RDWR | O_CLOEXEC);
  if (memory < 0) return 0;
  const absl::Cleanup close_memory = [memory] { close(memory); };
  size_t places = 0;
  for (std::string line; std::getline(maps, line);) {
    if (!absl::StrContains(line, "/memfd:kvtier")) continue;
    const uint64_t begin = std::strtoull(line.c_str(), nullptr, 16);
    const uint64_t end = std::strtoull(line.c_str() + line.find('-') + 1, nullptr, 16);
    std::string bytes(end - begin, '\0');
    if (pread(memory, bytes.data(), bytes.size(), static_cast<off_t>(begin)) < 0) continue;
    for (size_t at = bytes.find(wanted); at != bytes.npos; at = bytes.find(wanted, at + 1)) {
      const char flipped = static_cast<char>(bytes[at] ^ 1);
      places += pwrite(memory, &flipped, 1, static_cast<off_t>(begin + at)) == 1;
    }
  }
  return places;
}

TEST_F(FaultTest, DamageIsFoundInEitherPoolAndMended) {
  // Half of each chunk's blocks in each pool, and none of them moves.
  StartDaemon(SmallConfig("policy: {name: static, static_share: [0.5, 0.5]}\n"));
  const auto client = Connect();
  ASSERT_NE(client, nullptr);
  ASSERT_OK_AND_ASSIGN(const Model model, client->RegisterModel(UnequalModel()));
  std::set<std::string> pools;
  uint64_t damaged = 0;
  for (uint32_t plane = 0; plane < 3; ++plane) {
    SCOPED_TRACE(plane);
    const std::vector<Key> keys = ChainKeys(model, plane, 2);
    ASSERT_THAT(StoreChunks(*client, model, {.keys = keys, .count = 2}), IsOk());
    const uint64_t bytes = model.geometry().planes[plane].bytes_per_chunk;
    std::vector<std::byte> head = BlockBytes(keys[1], plane, bytes);
    head.resize(64);
    ASSERT_EQ(Damage(daemon().pid(), head), 1u);
    ++damaged;

    ASSERT_OK_AND_ASSIGN(const Match match, client->Lookup({.model = model, .keys = keys}));
    ASSERT_EQ(match.chunks, 2u);
    std::vector<std::byte> good(bytes);
    std::vector<std::byte> bad(bytes);
    ASSERT_OK_AND_ASSIGN(
        const GetResult got,
        client->Get({.model = model,
                     .lease = match.lease,
                     .blocks = {{.chunk = 0, .plane = plane, .pieces = {{good.data(), bytes}}},
                                {.chunk = 1, .plane = plane, .pieces = {{bad.data(), bytes}}}}}));
    EXPECT_FALSE(got.all_ok);
    EXPECT_THAT(got.blocks[0].status, IsOk());
    EXPECT_EQ(good, BlockBytes(keys[0], plane, bytes));
    EXPECT_THAT(got.blocks[1].status, StatusIs(kDataLoss));
    pools.insert(got.blocks[0].pool);
    EXPECT_EQ(daemon().Status().counters().at("corrupt_copies"), damaged);
    ASSERT_THAT(client->Release(match.lease), IsOk());

    ASSERT_OK_AND_ASSIGN(const uint32_t left, ReadChunks(*client, model, keys));
    EXPECT_EQ(left, 1u) << "the damaged chunk is found no more";
    ASSERT_THAT(StoreChunks(*client, model, {.keys = keys, .first = 1, .count = 1}), IsOk());
    ASSERT_OK_AND_ASSIGN(const uint32_t mended, ReadChunks(*client, model, keys));
    EXPECT_EQ(mended, 2u);
  }
  EXPECT_EQ(pools.size(), 2u) << "both pools were damaged";
}

}  // namespace
}  // namespace kvtier::test_support
