// The kvtier client: stores and fetches KV cache blocks through a kvtierd on this machine.
//
// Each operation exists as Submit... -> Ticket; its completion comes through one queue per client,
// which event_fd() makes pollable. The blocking calls do the same on the calling thread, so both
// styles mix. Tickets that are in flight together run in any order: wait for a Put before its
// Commit is submitted.
//
// Errors: the status codes of the daemon (proto/kvtier/v1/kv_cache.proto). UNAVAILABLE means that
// no daemon answers; every call returns it within ClientOptions::unavailable_after of a daemon's
// end. The client then re-attaches by itself: calls work again once a daemon is back, models are
// registered again under the same Model, and handles of before are NOT_FOUND. UNAVAILABLE or
// RESOURCE_EXHAUSTED never mean that inference must stop: recompute and go on.
//
// Thread-safe: any thread may call anything; completions go to whoever polls.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "kvtier/read_section.h"
#include "kvtier/types.h"

namespace kvtier {

// How bytes come and go. Control calls are gRPC either way.
enum class Transport : uint8_t {
  kAuto,          // shared memory where the daemon offers it and it can be mapped, else streams
  kStream,        // copies through the daemon
  kSharedMemory,  // Connect fails where there is none
};

// Which copies of blocks a read section hashes before it gives their addresses out.
enum class Verify : uint8_t {
  kFirstRead,  // each copy once, as long as verified_blocks_max remembers it
  kAlways,
  kOff,  // Get hashes what it copies, but for this
};

struct ClientOptions {
  std::string socket{};         // empty: DefaultSocketPath()
  std::string name = "client";  // for the daemon's logs and status
  // A call that gets no answer fails with UNAVAILABLE at the latest after this time without a sign
  // of life.
  absl::Duration unavailable_after = absl::Seconds(2);
  absl::Duration call_timeout =
      absl::Seconds(30);        // DEADLINE_EXCEEDED for one call that takes longer
  uint32_t tickets_max = 1024;  // submitted and not yet polled; RESOURCE_EXHAUSTED beyond
  Transport transport = Transport::kAuto;
  Verify verify = Verify::kFirstRead;
  uint32_t verified_blocks_max = 4'194'304;  // remembered by kFirstRead; 8 bytes each once used
  // One section in so many tells the daemon which blocks it resolved; 0: none. Report() is always
  // passed on.
  uint32_t report_every = 8;
};

// $KVTIER_SOCKET, else $XDG_RUNTIME_DIR/kvtier/kvtierd.sock, else /run/kvtier/kvtierd.sock.
std::string DefaultSocketPath();

// A registered model. Value type; survives daemon restarts. A default-constructed one can only be
// assigned to.
//
// Keys depend on the tenant's salt. Where the daemon's configuration does not fix it, a restarted
// daemon has a new one, and keys computed before find nothing: compute them again for each request.
class Model {
 public:
  Model() = default;
  const ModelGeometry& geometry() const { return *geometry_; }
  // Key of the chunk of `tokens` after `parent` (zero: first). See docs/ARCHITECTURE.md, "Keys".
  Key ChunkKey(const Key& parent, absl::Span<const uint32_t> tokens,
               std::string_view extra = {}) const;
  Key OpaqueKey(const Key& parent, std::string_view engine_key, std::string_view extra = {}) const;
  // Keys of all chunks of `tokens`, the shorter tail included.
  std::vector<Key> PrefixKeys(absl::Span<const uint32_t> tokens, std::string_view extra = {}) const;

 private:
  friend class Client;
  friend class ClientCore;
  std::shared_ptr<const ModelGeometry> geometry_;
  std::shared_ptr<class ModelRegistration> registration_;  // shared with the client
};

using Ticket = uint64_t;

// What a ticket's operation returned: the type that the blocking call of the same name returns.
using CompletionValue = std::variant<std::monostate, ReservationHandle, std::vector<CommitResult>,
                                     Match, GetResult, absl::Duration, uint32_t>;
struct Completion {
  Ticket ticket = 0;
  absl::Status status{};
  CompletionValue value{};  // meaningful when status is OK
};

struct ReserveRequest {
  Model model{};
  Key parent{};  // zero: the first chunk of a prefix
  uint32_t chunk_count = 1;
  std::vector<uint32_t> planes{};  // empty: all
  WriteHints hints{};
};
struct PutRequest {
  Model model{};
  ReservationHandle reservation = 0;
  std::vector<BlockSource> blocks{};  // the caller's memory must stay as it is until the completion
};
struct CommitRequest {
  Model model{};
  ReservationHandle reservation = 0;
  // Checksums are those of the blocks put through this client, or of what lies in Buffers.
  std::vector<ChunkCommit> chunks{};
};
struct LookupRequest {
  Model model{};
  std::vector<Key> keys{};  // in prefix order
  bool lease = true;
  absl::Duration lease_ttl{};  // zero: the daemon's default
};
struct GetRequest {
  Model model{};
  LeaseHandle lease = 0;
  std::vector<BlockDestination> blocks{};  // written until the completion
};

// Ends one Watch() from another thread; not to be used again for a second one. Thread-safe.
class WatchStop {
 public:
  // The Watch() returns OK soon, even where no event comes; at once if it begins after this.
  void Stop();

 private:
  friend class ClientCore;
  // Has Stop() call `cancel` until End(). False: Stop() came first.
  bool Begin(std::function<void()> cancel);
  bool End();  // whether Stop() was called

  std::mutex mutex_;
  bool stopped_ = false;
  std::function<void()> cancel_;
};

class Client {
 public:
  // Attaches to the daemon. UNAVAILABLE when none answers (the message names the socket),
  // FAILED_PRECONDITION with both versions when it speaks another major version, PERMISSION_DENIED
  // for an unknown tenant.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(ClientOptions options = {});
  // Like Connect, but succeeds without a daemon and attaches when one appears.
  static absl::StatusOr<std::unique_ptr<Client>> Create(ClientOptions options = {});
  ~Client();  // detaches; operations in flight complete with CANCELLED
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  // Detaches, while other threads may still be calling: what is in flight completes with CANCELLED,
  // and so does every later call. Completions can still be polled.
  void Close();

  // --- asynchronous ------------------------------------------------------------------------------
  // RESOURCE_EXHAUSTED at tickets_max; every other error comes with the completion.
  absl::StatusOr<Ticket> SubmitReserve(ReserveRequest request);
  absl::StatusOr<Ticket> SubmitPut(PutRequest request);
  absl::StatusOr<Ticket> SubmitCommit(CommitRequest request);
  absl::StatusOr<Ticket> SubmitLookup(LookupRequest request);
  absl::StatusOr<Ticket> SubmitGet(GetRequest request);
  // Takes up to `completions_max` completions without blocking.
  std::vector<Completion> Poll(size_t completions_max = 64);
  // Waits for one ticket and takes its completion; Poll leaves it alone meanwhile. NOT_FOUND: no
  // such ticket; DEADLINE_EXCEEDED: it stays in flight.
  absl::StatusOr<Completion> Wait(Ticket ticket, absl::Duration timeout = absl::InfiniteDuration());
  // Readable while completions wait to be polled. Owned by the client.
  int event_fd() const;

  // --- blocking ----------------------------------------------------------------------------------
  absl::StatusOr<Model> RegisterModel(const ModelGeometry& geometry);
  absl::StatusOr<ReservationHandle> Reserve(ReserveRequest request);
  absl::Status Put(PutRequest request);
  // One result per chunk; the first chunk that fails ends the call with its error.
  absl::StatusOr<std::vector<CommitResult>> Commit(CommitRequest request);
  absl::Status Abort(ReservationHandle reservation);
  // Where the blocks of one chunk are to be written in place, in the order of `planes` (empty: all
  // reserved ones). Commit hashes what lies there then; write it no more from then on. Valid until
  // the block is committed or the reservation ends. FAILED_PRECONDITION: this reservation is not in
  // place (streams, or no room for it): use Put, which works for both.
  absl::StatusOr<std::vector<MutableBuffer>> Buffers(ReservationHandle reservation, uint32_t chunk,
                                                     const std::vector<uint32_t>& planes = {});
  absl::StatusOr<Match> Lookup(LookupRequest request);
  absl::StatusOr<GetResult> Get(GetRequest request);
  absl::StatusOr<absl::Duration> Renew(LeaseHandle lease, absl::Duration ttl);
  absl::Status Release(LeaseHandle lease);
  absl::Status Report(LeaseHandle lease, const std::vector<ReadReport>& reports);
  absl::StatusOr<uint32_t> Prefetch(const Model& model, const std::vector<Key>& keys);
  absl::StatusOr<uint32_t> Forget(const Model& model, const std::vector<Key>& keys);
  // Calls `on_event` for every event after `after_sequence` (0: from now on) until it returns false
  // or the daemon goes; resume with the last sequence seen. Blocks the calling thread; `stop`,
  // where given, outlives the call.
  absl::Status Watch(uint64_t after_sequence,
                     const std::function<bool(const WatchEvent&)>& on_event,
                     WatchStop* stop = nullptr);

  // --- in place (read_section.h) -----------------------------------------------------------------
  // UNAVAILABLE: no daemon, or no memory shared with it; RESOURCE_EXHAUSTED: 256 are open.
  absl::StatusOr<ReadSection> EnterSection();

  // --- time --------------------------------------------------------------------------------------
  // From here on lookups, commits and reports say that they happen at this time of a trace, for
  // placement to go by, where the daemon's policy.logical_time takes it. Counted from a beginning
  // that all clients of the tenant share; zero or less: no more.
  void SetLogicalTime(absl::Duration time);

  // --- state -------------------------------------------------------------------------------------
  bool attached() const;
  // Changes with each daemon restart; 0 while not attached.
  uint64_t daemon_epoch() const;
  std::string tenant() const;
  // kStream or kSharedMemory; kAuto while not attached.
  Transport transport() const;
  // Why bytes go by streams; empty with shared memory.
  std::string transport_note() const;
  // Waits until attached; DEADLINE_EXCEEDED otherwise.
  absl::Status WaitAttached(absl::Duration timeout);

 private:
  explicit Client(std::unique_ptr<class ClientCore> core);
  std::unique_ptr<class ClientCore> core_;
};

}  // namespace kvtier
