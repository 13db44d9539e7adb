// The operations of a client: what Client's calls do, on whatever thread they run.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/attachment.h"
#include "client/block_finder.h"
#include "client/block_streams.h"
#include "client/handle_table.h"
#include "client/model_registry.h"
#include "client/reservation_record.h"
#include "client/section_places.h"
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
  void SetLogicalTime(absl::Duration time);
  absl::StatusOr<Model> RegisterModel(const ModelGeometry& geometry);
  absl::StatusOr<ReservationHandle> Reserve(const ReserveRequest& request);
  absl::Status Put(const PutRequest& request);
  absl::StatusOr<std::vector<CommitResult>> Commit(const CommitRequest& request);
  absl::Status Abort(ReservationHandle reservation);
  absl::StatusOr<std::vector<MutableBuffer>> Buffers(ReservationHandle reservation, uint32_t chunk,
                                                     const std::vector<uint32_t>& planes);
  absl::StatusOr<Match> Lookup(const LookupRequest& request);
  absl::StatusOr<GetResult> Get(const GetRequest& request);
  absl::StatusOr<absl::Duration> Renew(LeaseHandle lease, absl::Duration ttl);
  absl::Status Release(LeaseHandle lease);
  absl::Status Report(LeaseHandle lease, const std::vector<ReadReport>& reports);
  absl::StatusOr<uint32_t> Prefetch(const Model& model, const std::vector<Key>& keys);
  absl::StatusOr<uint32_t> Forget(const Model& model, const std::vector<Key>& keys);
  absl::Status Watch(uint64_t after_sequence,
                     const std::function<bool(const WatchEvent&)>& on_event, WatchStop* stop);
  Transport transport() const;
  std::string transport_note() const ABSL_LOCKS_EXCLUDED(mutex_);

  // For read sections. While one is open the client is there.
  using LeasePointer = std::shared_ptr<LeaseRecord>;
  absl::StatusOr<ReadSection> EnterSection();
  const ClientOptions& options() const { return options_; }
  // Records of an earlier link are NOT_FOUND.
  absl::StatusOr<LeasePointer> FindLease(LeaseHandle handle);
  // INVALID_ARGUMENT: not of this client; UNAVAILABLE: not known to the daemon of this memory.
  absl::StatusOr<uint32_t> ModelIdFor(const Model& model, const TenantMemory& memory);
  // Asks the daemon of this memory to look at a copy, if it is still there.
  void Complain(const TenantMemory& memory, uint64_t row, uint32_t plane, wire::ResidencyWord word);

 private:
  using LinkPointer = std::shared_ptr<DaemonLink>;

  explicit ClientCore(ClientOptions options);

  // Counts a call of any thread while it runs, so that the destructor can wait for its end.
  class Running {
   public:
    explicit Running(ClientCore& core) : core_(core) {
      absl::MutexLock lock(&core_.mutex_);
      ++core_.running_;
    }
    ~Running() {
      absl::MutexLock lock(&core_.mutex_);
      --core_.running_;
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

   private:
    ClientCore& core_;
  };

  absl::Status OnAttach(const LinkPointer& link);
  // Shares memory with the daemon, or notes why not; an error where there is no going on without.
  absl::Status AttachMemory(const LinkPointer& link) ABSL_LOCKS_EXCLUDED(mutex_);

  // Sends one unary request over the control connection; learns from errors whether the link or the
  // session ended.
  template <typename Method, typename Request, typename Reply>
  absl::Status Send(const LinkPointer& link, Method method, const Request& request, Reply& reply) {
    absl::Status status;
    {
      DaemonLink::Call call(link, options_.call_timeout);
      status = call.Finish((link->control().*method)(call.context(), request, &reply));
    }
    Learn(*link, status);
    return status;
  }
  // The field of a call over `link`; 0: none.
  uint64_t LogicalTimeUs(const DaemonLink& link) const {
    return link.session().takes_logical_time ? logical_time_us_.load(std::memory_order_relaxed) : 0;
  }
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
  // Maps the blocks that a reservation in place is made of. On failure `terms` are as they were.
  static absl::Status MapSlots(absl::Span<const uint64_t> words, ReservationRecord::Terms& terms);
  // Reads what it can in place; `rest` gets the numbers of the others.
  absl::Status GetShared(const LeaseRecord& lease, absl::Span<const BlockDestination> blocks,
                         GetResult& result, std::vector<size_t>& rest);
  // Whether the reports go by the ring, and are written there.
  absl::StatusOr<bool> ReportByRing(const LeaseRecord& lease,
                                    const std::vector<ReadReport>& reports);
  absl::StatusOr<CommitResult> CommitOutcome(ReservationRecord& record, const ChunkCommit& chunk,
                                             const std::vector<uint32_t>& planes,
                                             const kvtier::v1::CommitReply::Chunk& reply,
                                             bool& empty);

  const ClientOptions options_;
  std::unique_ptr<SectionPlaces> places_;  // before whatever shares memory: it outlives that
  ModelRegistry models_;
  HandleTable<std::shared_ptr<ReservationRecord>> reservations_;
  HandleTable<LeasePointer> leases_;
  std::unique_ptr<Attachment> attachment_;
  std::unique_ptr<TicketQueue> tickets_;

  std::atomic<uint64_t> logical_time_us_{0};

  absl::Mutex close_mutex_;  // threads are joined once

  mutable absl::Mutex mutex_;
  std::string transport_note_ ABSL_GUARDED_BY(mutex_);
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kvtier
