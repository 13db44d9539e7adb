// Proves how the client behaves around the daemon's life: refusal of another version, UNAVAILABLE
// within the stated bound when the daemon dies or stops answering, re-attachment and
// re-registration by itself, old handles ending. Runs against the fake daemon of this folder; waits
// on conditions with deadlines.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <future>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "tests/unit/client/client_fixture.h"

namespace kvtier::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using AttachmentTest = ClientTest;

TEST_F(AttachmentTest, NoDaemonIsUnavailableAndNamesTheSocket) {
  const absl::Status status = Client::Connect(Options()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(socket()));
}

TEST_F(AttachmentTest, AnotherMajorVersionIsRefusedWithBothNamed) {
  daemon_.set_behaviour({.version_major = 2});
  daemon_.Start();
  const absl::Status status = Client::Connect(Options()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("2.0"), HasSubstr("1.0")));
}

// kvtierd closes connections of users that belong to no tenant before anything is said.
TEST_F(AttachmentTest, AListenerThatClosesEveryConnectionDeniesPermission) {
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket().copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(::listen(listener, 16), 0);
  std::thread refuser([listener] {
    for (int fd; (fd = ::accept(listener, nullptr, nullptr)) >= 0;) ::close(fd);
  });
  const absl::Status status = Client::Connect(Options()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(::getuid())));
  ::shutdown(listener, SHUT_RDWR);
  refuser.join();
  ::close(listener);
}

TEST_F(AttachmentTest, BadOptionsAreRefused) {
  ClientOptions options = Options();
  options.socket = std::string(200, 'x');
  EXPECT_EQ(Client::Connect(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = Options();
  options.unavailable_after = absl::ZeroDuration();
  EXPECT_EQ(Client::Create(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = Options();
  options.tickets_max = 0;
  EXPECT_EQ(Client::Create(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(AttachmentTest, AttachTellsWhoAndWhere) {
  Attach();
  EXPECT_TRUE(client_->attached());
  EXPECT_EQ(client_->daemon_epoch(), 1001u);
  EXPECT_EQ(client_->tenant(), "default");
  EXPECT_EQ(daemon_.attach_pid(), ::getpid());
}

TEST_F(AttachmentTest, CreateAttachesWhenADaemonAppears) {
  auto client = Client::Create(Options());
  ASSERT_TRUE(client.ok());
  EXPECT_EQ((*client)->WaitAttached(absl::Milliseconds(1)).code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ((*client)->RegisterModel(Geometry()).status().code(), absl::StatusCode::kUnavailable);
  daemon_.Start();
  const absl::Status status = (*client)->WaitAttached(absl::Seconds(10));
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(AttachmentTest, ADeadDaemonMakesCallsFailAtOnceAndARestartHealsAll) {
  Attach();
  auto model = client_->RegisterModel(Geometry());
  ASSERT_TRUE(model.ok());
  const std::vector<Key> keys = Store(*model, 1);
  auto reservation = client_->Reserve({.model = *model, .chunk_count = 1});
  ASSERT_TRUE(reservation.ok());
  auto match = client_->Lookup({.model = *model, .keys = keys});
  ASSERT_TRUE(match.ok() && match->lease != 0);

  daemon_.Stop();
  const absl::Time stopped = absl::Now();
  const absl::Status lookup = client_->Lookup({.model = *model, .keys = keys}).status();
  EXPECT_EQ(lookup.code(), absl::StatusCode::kUnavailable) << lookup;
  EXPECT_EQ(client_->Release(match->lease).code(), absl::StatusCode::kUnavailable);
  EXPECT_LT(absl::Now() - stopped, Options().unavailable_after);
  EXPECT_FALSE(client_->attached());
  EXPECT_EQ(client_->daemon_epoch(), 0u);

  daemon_.Start();
  ASSERT_TRUE(client_->WaitAttached(absl::Seconds(10)).ok());
  EXPECT_EQ(client_->daemon_epoch(), 1002u);
  EXPECT_EQ(daemon_.registered_models(), 1);  // before anybody asked for it
  // The new daemon has given the same numbers to other things by now; the client tells them apart.
  ASSERT_TRUE(client_->Reserve({.model = *model, .chunk_count = 1}).ok());
  EXPECT_EQ(client_->Put({.model = *model, .reservation = *reservation}).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(client_->Get({.model = *model, .lease = match->lease}).status().code(),
            absl::StatusCode::kNotFound);
  // The salt is a new one, and the same Model follows it.
  EXPECT_NE(Store(*model, 1), keys);
}

TEST_F(AttachmentTest, AStoppedDaemonEndsCallsInFlightWithinTheBound) {
  Attach();
  auto model = client_->RegisterModel(Geometry());
  ASSERT_TRUE(model.ok());
  const std::vector<Key> keys = Store(*model, 1);
  daemon_.Pause();
  const absl::Time paused = absl::Now();
  std::future<absl::Status> lookup = std::async(std::launch::async, [&] {
    return client_->Lookup({.model = *model, .keys = keys}).status();
  });
  auto ticket = client_->SubmitReserve({.model = *model, .chunk_count = 1});
  ASSERT_TRUE(ticket.ok());
  const absl::Status status = lookup.get();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  auto completion = client_->Wait(*ticket, absl::Seconds(10));
  ASSERT_TRUE(completion.ok());
  EXPECT_EQ(completion->status.code(), absl::StatusCode::kUnavailable) << completion->status;
  // The bound is 1 s; the rest is for a slow machine.
  EXPECT_LT(absl::Now() - paused, absl::Seconds(2));
  daemon_.set_behaviour({});
  EXPECT_TRUE(client_->WaitAttached(absl::Seconds(10)).ok());
}

TEST_F(AttachmentTest, ADrainingDaemonStaysAttached) {
  Attach();
  auto model = client_->RegisterModel(Geometry());
  ASSERT_TRUE(model.ok());
  daemon_.set_behaviour({.draining = true});
  const absl::Status status = client_->Reserve({.model = *model}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("draining"));
  EXPECT_TRUE(client_->attached());
  EXPECT_EQ(daemon_.attached(), 1);
}

TEST_F(AttachmentTest, ASessionThatTheDaemonEndedIsReplaced) {
  Attach();
  auto model = client_->RegisterModel(Geometry());
  ASSERT_TRUE(model.ok());
  daemon_.set_behaviour({.forget_sessions = true});
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (daemon_.attached() < 2 && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_EQ(daemon_.attached(), 2);
  ASSERT_TRUE(client_->WaitAttached(absl::Seconds(10)).ok());
  EXPECT_TRUE(client_->Reserve({.model = *model}).ok());
}

TEST_F(AttachmentTest, TheDestructorCancelsWhatIsInFlight) {
  ClientOptions options = Options();
  options.unavailable_after = absl::Seconds(60);
  Attach(options);
  auto model = client_->RegisterModel(Geometry());
  ASSERT_TRUE(model.ok());
  daemon_.Pause();
  std::future<absl::Status> lookup = std::async(std::launch::async, [&] {
    return client_->Lookup({.model = *model, .keys = {Key{1}}}).status();
  });
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(client_->SubmitReserve({.model = *model}).ok());
  daemon_.AwaitSilentCalls(5);  // the lookup and one of each of the client's threads
  const absl::Time start = absl::Now();
  client_ = nullptr;
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  EXPECT_EQ(lookup.get().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace kvtier::testing
