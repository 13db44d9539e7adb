// The operations of a client: what Client's calls do, on whatever thread they run.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/attachment.h"
#include "client/block_streams.h"
#include "client/handle_table.h"
#include "client/model_registry.h"
#include "client/reservation_record.h"
#include "client/ticket_queue.h"
#include "kvtier/client.h"

namespace kvtier {

// Thread-safe. Owned by its Client; every call returns before the client is gone.
class ClientCore {
 public:
  // INVALID_ARGUMENT names the option, the number and the limit. Attaches to nothing yet.
  static absl::StatusOr<std::unique_ptr<ClientCore>> Create(ClientOptions options);
  ~ClientCore();
  ClientCore(const ClientCore&) = delete;
  ClientCore& operator=(const ClientCore&) = delete;

  // See Client::Close(). Any number of threads may call it.
  void Close() ABSL_LOCKS_EXCLUDED(close_mutex_);

  Attachment& attachment() { return *attachment_; }
  TicketQueue& tickets() { return *tickets_; }

  absl::StatusOr<Completion> Wait(Ticket ticket, absl::Duration timeout);
  absl::Status WaitAttached(absl::Duration timeout);
  absl::StatusOr<Model> RegisterModel(const ModelGeometry& geometry);
  absl::StatusOr<ReservationHandle> Reserve(const ReserveRequest& request);
  absl::Status Put(const PutRequest& request);
  absl::StatusOr<std::vector<CommitResult>> Commit(const CommitRequest& request);
  absl::Status Abort(ReservationHandle reservation);
  absl::StatusOr<Match> Lookup(const LookupRequest& request);
  absl::StatusOr<GetResult> Get(const GetRequest& request);
  absl::StatusOr<absl::Duration> Renew(LeaseHandle lease, absl::Duration ttl);
  absl::Status Release(LeaseHandle lease);
  absl::Status Report(LeaseHandle lease, const std::vector<ReadReport>& reports);
  absl::StatusOr<uint32_t> Prefetch(const Model& model, const std::vector<Key>& keys);
  absl::StatusOr<uint32_t> Forget(const Model& model, const std::vector<Key>& keys);
  absl::Status Watch(uint64_t after_sequence,
                     const std::function<bool(const WatchEvent&)>& on_event, WatchStop* stop);

 private:
  using LinkPointer = std::shared_ptr<DaemonLink>;

  explicit ClientCore(ClientOptions options);

  // Counts a call of any thread while it runs, so that the destructor can wait for its end.
  class Running;

  // Sends one unary request over the control connection; learns from errors whether the link or the
  // session ended.
  template <typename Method, typename Request, typename Reply>
  absl::Status Send(const LinkPointer& link, Method method, const Request& request, Reply& reply);
  // What an error of a call over `link` says about the link.
  void Learn(DaemonLink& link, const absl::Status& status);

  // Watch() over one link: until `on_event` or `stop` ends it (OK), or the daemon.
  static absl::Status ReadEvents(const LinkPointer& link, uint64_t after_sequence,
                                 const std::function<bool(const WatchEvent&)>& on_event,
                                 WatchStop* stop);
  static absl::Status ReadEvents(DaemonLink& link, DaemonLink::Call& call, uint64_t after_sequence,
                                 const std::function<bool(const WatchEvent&)>& on_event);
  // The link that is there, and the model's id over it.
  absl::StatusOr<std::pair<LinkPointer, uint32_t>> LinkFor(const Model& model);
  // Records of an earlier link are NOT_FOUND.
  absl::StatusOr<std::shared_ptr<ReservationRecord>> FindReservation(ReservationHandle handle);
  absl::StatusOr<LeaseRecord> FindLease(LeaseHandle handle);
  absl::StatusOr<CommitResult> CommitOutcome(ReservationRecord& record, const ChunkCommit& chunk,
                                             const std::vector<uint32_t>& planes,
                                             const kvtier::v1::CommitReply::Chunk& reply,
                                             bool& empty);

  const ClientOptions options_;
  ModelRegistry models_;
  HandleTable<std::shared_ptr<ReservationRecord>> reservations_;
  HandleTable<LeaseRecord> leases_;
  std::unique_ptr<Attachment> attachment_;
  std::unique_ptr<TicketQueue> tickets_;

  absl::Mutex close_mutex_;  // threads are joined once

  absl::Mutex mutex_;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kvtier
