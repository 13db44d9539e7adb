// A client has two connections to the daemon, one for messages and one for bulk streams. Losing
// either of them, and not only the daemon, means UNAVAILABLE and then a new attachment by itself.
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/client_blocks.h"
#include "tests/support/daemon_fixture.h"
#include "tests/support/status_matchers.h"

namespace kvtier::test_support {
namespace {

using enum absl::StatusCode;

// This process's sockets that are connected to the socket at `path`, lowest first.
std::vector<int> ConnectionsTo(const std::string& path) {
  std::vector<int> found;
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_un peer{};
    socklen_t length = sizeof peer;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0) continue;
    if (peer.sun_family == AF_UNIX && peer.sun_path == path) found.push_back(fd);
  }
  return found;
}

class LostConnectionTest : public DaemonTest, public ::testing::WithParamInterface<size_t> {};

TEST_P(LostConnectionTest, TheClientAttachesAnewByItself) {
  StartDaemon();
  const std::vector<int> of_fixture = ConnectionsTo(socket());
  const auto client = Connect();
  ASSERT_NE(client, nullptr);
  ASSERT_OK_AND_ASSIGN(const Model model, client->RegisterModel(UnequalModel()));
  const std::vector<Key> keys = ChainKeys(model, 1, 3);
  ASSERT_THAT(StoreChunks(*client, model, {.keys = keys, .count = 3}), IsOk());
  std::vector<int> own;
  for (const int fd : ConnectionsTo(socket())) {
    if (std::find(of_fixture.begin(), of_fixture.end(), fd) == of_fixture.end()) own.push_back(fd);
  }
  ASSERT_EQ(own.size(), 2u);

  ASSERT_EQ(shutdown(own[GetParam()], SHUT_RDWR), 0);
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  absl::StatusOr<uint32_t> read = ReadChunks(*client, model, keys);
  int failures = 0;
  for (; !read.ok() && absl::Now() < deadline; ++failures) {
    ASSERT_THAT(read, StatusIs(kUnavailable));
    (void)client->WaitAttached(absl::Seconds(5));
    read = ReadChunks(*client, model, keys);
  }
  ASSERT_OK_AND_ASSIGN(const uint32_t chunks, read);
  EXPECT_EQ(chunks, 3u);
  const std::vector<Key> more = ChainKeys(model, 2, 2);
  EXPECT_THAT(StoreChunks(*client, model, {.keys = more, .count = 2}), IsOk());
}

// The third connection of a client that shares memory: the session goes on without it.
class LostChannelTest : public DaemonTest {};

TEST_F(LostChannelTest, TheSharedMemorySocketIsOpenedAgainAndReadsGoOnMeanwhile) {
  StartDaemon();
  const auto writer = Connect();
  ASSERT_NE(writer, nullptr);
  const std::vector<int> of_writer = ConnectionsTo(socket() + ".shm");
  ASSERT_EQ(of_writer.size(), 1u);
  ClientOptions options = Options("reader");
  options.transport = Transport::kSharedMemory;
  const auto reader = Connect(options);
  ASSERT_NE(reader, nullptr);
  ASSERT_OK_AND_ASSIGN(const Model model, writer->RegisterModel(UnequalModel()));
  ASSERT_OK_AND_ASSIGN(const Model theirs, reader->RegisterModel(UnequalModel()));
  const std::vector<Key> keys = ChainKeys(model, 1, 3);
  ASSERT_THAT(StoreChunks(*writer, model, {.keys = keys, .count = 3}), IsOk());
  ASSERT_OK_AND_ASSIGN(const Match match, reader->Lookup({.model = theirs, .keys = keys}));
  ASSERT_EQ(match.chunks, 3u);

  for (const int fd : ConnectionsTo(socket() + ".shm")) {
    if (fd != of_writer[0]) {
      ASSERT_EQ(shutdown(fd, SHUT_RDWR), 0);
    }
  }
  // Nothing is mapped yet. Whatever is asked for is there at once, and in the end in place; the
  // lease is of the session, which has not ended.
  const std::vector<Key> more = ChainKeys(theirs, 2, 2);
  EXPECT_THAT(StoreChunks(*reader, theirs, {.keys = more, .count = 2}), IsOk());
  const auto in_place = [&]() -> absl::StatusOr<size_t> {
    auto section = reader->EnterSection();
    if (!section.ok()) return section.status();
    std::vector<BlockView> views(3);
    return section->ResolveChunk(match.lease, 1, absl::MakeSpan(views));
  };
  EXPECT_TRUE(Await([&] {
    const auto read = ReadChunks(*reader, theirs, keys);
    EXPECT_THAT(read, IsOk());
    const auto resolved = in_place();
    EXPECT_THAT(resolved, IsOk());
    return !read.ok() || !resolved.ok() || *resolved == 3;
  }));
  ASSERT_OK_AND_ASSIGN(const size_t found, in_place());
  EXPECT_EQ(found, 3u);
  const std::vector<Key> last = ChainKeys(theirs, 3, 2);
  EXPECT_THAT(StoreChunks(*reader, theirs, {.keys = last, .count = 2}), IsOk());
}

INSTANTIATE_TEST_SUITE_P(Connections, LostConnectionTest, ::testing::Values(0, 1),
                         [](const auto& instance) {
                           return std::string(instance.param == 0 ? "Control" : "Bulk");
                         });

}  // namespace
}  // namespace kvtier::test_support
