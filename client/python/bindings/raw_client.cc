#include "client/python/bindings/raw_client.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "absl/status/status.h"
#include "client/python/bindings/conversions.h"
#include "client/python/bindings/errors.h"
#include "client/python/bindings/process_guard.h"

namespace py = pybind11;

namespace kvtier::python {
namespace {

// Guarded by the GIL. Never destroyed: a client may outlive the interpreter's modules.
std::unordered_set<RawClient*>& LiveClients() {
  static auto& clients = *new std::unordered_set<RawClient*>;
  return clients;
}

// Whatever `operation` returns, called without the GIL.
template <typename Operation>
auto Unlocked(Operation&& operation) {
  const ReleasedGil released;
  return operation();
}

// Submits without giving up the GIL: a completion cannot be polled before its buffers are noted.
template <typename Held, typename Submit>
Ticket SubmitHolding(Held& held, std::unique_ptr<HeldBuffers> buffers, Submit&& submit) {
  const Ticket ticket = ValueOrThrow(submit());
  held.emplace(ticket, std::move(buffers));
  return ticket;
}

ReserveRequest ReserveFrom(const Model& model, py::handle parent, py::handle chunks,
                           py::handle planes, int priority, double keep, bool do_not_store) {
  return {.model = model,
          .parent = KeyFrom(parent, "parent"),
          .chunk_count = Uint32(chunks, "chunks"),
          .planes = Uint32List(planes, "a plane"),
          .hints = {.priority = static_cast<Priority>(priority),
                    .keep = Seconds(keep, "keep"),
                    .do_not_store = do_not_store}};
}

CommitRequest CommitFrom(const Model& model, ReservationHandle reservation, py::handle chunks) {
  CommitRequest request{.model = model, .reservation = reservation};
  for (const py::handle item : py::iter(chunks)) {
    const auto parts = item.cast<py::tuple>();
    request.chunks.push_back({.chunk = Uint32(parts[0], "a chunk's number"),
                              .key = KeyFrom(parts[1], "a chunk's key"),
                              .token_count = Uint32(parts[2], "a chunk's token_count"),
                              .planes = Uint32List(parts[3], "a chunk's plane")});
  }
  return request;
}

LookupRequest LookupFrom(const Model& model, py::handle keys, bool lease, double lease_ttl) {
  return {.model = model,
          .keys = KeysFrom(keys),
          .lease = lease,
          .lease_ttl = Seconds(lease_ttl, "lease_ttl")};
}

}  // namespace

RawClient::RawClient(const std::string& socket, const std::string& name, double unavailable_after,
                     double call_timeout, uint32_t tickets_max, bool lazy, int transport,
                     int verify, uint32_t report_every) {
  const Call running;
  NoticeForks();
  ClientOptions options{.socket = socket,
                        .name = name,
                        .unavailable_after = Seconds(unavailable_after, "unavailable_after"),
                        .call_timeout = Seconds(call_timeout, "call_timeout"),
                        .tickets_max = tickets_max,
                        .transport = static_cast<Transport>(transport),
                        .verify = static_cast<Verify>(verify),
                        .report_every = report_every};
  client_ = ValueOrThrow(Unlocked([&] {
    return lazy ? Client::Create(std::move(options)) : Client::Connect(std::move(options));
  }));
  LiveClients().insert(this);
}

RawClient::~RawClient() {
  LiveClients().erase(this);
  if (Forked()) {
    Leak(client_);
  } else {
    Close();
    const ReleasedGil released;
    client_.reset();
  }
}

void RawClient::Close() {
  closed_ = true;
  if (Forked()) return;
  const std::vector<std::weak_ptr<WatchStream>> streams = std::exchange(streams_, {});
  for (const auto& weak : streams) {
    if (const auto stream = weak.lock()) stream->Close();
  }
  const ReleasedGil released;
  client_->Close();
}

void RawClient::CloseAll() {
  // Copied: the GIL changes hands on the way.
  for (;;) {
    auto& live = LiveClients();
    const auto open = std::find_if(live.begin(), live.end(), [](auto* c) { return !c->closed_; });
    if (open == live.end()) return;
    // Kept by its object meanwhile: the GIL changes hands on the way.
    const py::object kept = py::cast(*open, py::return_value_policy::reference);
    (*open)->Close();
  }
}

Model RawClient::RegisterModel(const py::tuple& geometry) {
  const Call running;
  const ModelGeometry wanted = GeometryFrom(geometry);
  return ValueOrThrow(Unlocked([&] { return client_->RegisterModel(wanted); }));
}

ReservationHandle RawClient::Reserve(const Model& model, py::handle parent, py::handle chunks,
                                     py::handle planes, int priority, double keep,
                                     bool do_not_store) {
  const Call running;
  auto request = ReserveFrom(model, parent, chunks, planes, priority, keep, do_not_store);
  return ValueOrThrow(Unlocked([&] { return client_->Reserve(std::move(request)); }));
}

void RawClient::Put(const Model& model, ReservationHandle reservation, py::handle blocks) {
  const Call running;
  HeldBuffers held;
  PutRequest request{.model = model, .reservation = reservation, .blocks = held.Sources(blocks)};
  ThrowIfError(Unlocked([&] { return client_->Put(std::move(request)); }));
}

py::object RawClient::Commit(const Model& model, ReservationHandle reservation, py::handle chunks) {
  const Call running;
  auto request = CommitFrom(model, reservation, chunks);
  return ValueOf(ValueOrThrow(Unlocked([&] { return client_->Commit(std::move(request)); })));
}

void RawClient::Abort(ReservationHandle reservation) {
  const Call running;
  ThrowIfError(Unlocked([&] { return client_->Abort(reservation); }));
}

py::object RawClient::Lookup(const Model& model, py::handle keys, bool lease, double lease_ttl) {
  const Call running;
  auto request = LookupFrom(model, keys, lease, lease_ttl);
  return ValueOf(ValueOrThrow(Unlocked([&] { return client_->Lookup(std::move(request)); })));
}

py::object RawClient::Get(const Model& model, LeaseHandle lease, py::handle blocks) {
  const Call running;
  HeldBuffers held;
  GetRequest request{.model = model, .lease = lease, .blocks = held.Destinations(blocks)};
  return ValueOf(ValueOrThrow(Unlocked([&] { return client_->Get(std::move(request)); })));
}

double RawClient::Renew(LeaseHandle lease, double ttl) {
  const Call running;
  const absl::Duration wanted = Seconds(ttl, "ttl");
  return absl::ToDoubleSeconds(
      ValueOrThrow(Unlocked([&] { return client_->Renew(lease, wanted); })));
}

void RawClient::Release(LeaseHandle lease) {
  const Call running;
  ThrowIfError(Unlocked([&] { return client_->Release(lease); }));
}

void RawClient::Report(LeaseHandle lease, py::handle reports) {
  const Call running;
  std::vector<ReadReport> wanted;
  for (const py::handle item : py::iter(reports)) {
    const auto parts = item.cast<py::tuple>();
    ReadReport report{.plane = Uint32(parts[0], "a report's plane"),
                      .steps = Uint32(parts[1], "a report's steps")};
    for (const py::handle mass : py::iter(parts[2])) report.mass.push_back(mass.cast<double>());
    wanted.push_back(std::move(report));
  }
  ThrowIfError(Unlocked([&] { return client_->Report(lease, wanted); }));
}

uint32_t RawClient::Prefetch(const Model& model, py::handle keys) {
  const Call running;
  const std::vector<Key> wanted = KeysFrom(keys);
  return ValueOrThrow(Unlocked([&] { return client_->Prefetch(model, wanted); }));
}

uint32_t RawClient::Forget(const Model& model, py::handle keys) {
  const Call running;
  const std::vector<Key> wanted = KeysFrom(keys);
  return ValueOrThrow(Unlocked([&] { return client_->Forget(model, wanted); }));
}

std::shared_ptr<WatchStream> RawClient::Watch(uint64_t after_sequence) {
  const Call running;
  auto stream = std::make_shared<WatchStream>(client_, after_sequence);
  std::erase_if(streams_, [](const auto& known) { return known.expired(); });
  streams_.push_back(stream);
  return stream;
}

std::unique_ptr<RawSection> RawClient::EnterSection() {
  const Call running;
  return std::make_unique<RawSection>(client_);
}

Ticket RawClient::SubmitReserve(const Model& model, py::handle parent, py::handle chunks,
                                py::handle planes, int priority, double keep, bool do_not_store) {
  const Call running;
  return ValueOrThrow(client_->SubmitReserve(
      ReserveFrom(model, parent, chunks, planes, priority, keep, do_not_store)));
}

Ticket RawClient::SubmitPut(const Model& model, ReservationHandle reservation, py::handle blocks) {
  const Call running;
  auto held = std::make_unique<HeldBuffers>();
  PutRequest request{.model = model, .reservation = reservation, .blocks = held->Sources(blocks)};
  return SubmitHolding(held_, std::move(held),
                       [&] { return client_->SubmitPut(std::move(request)); });
}

Ticket RawClient::SubmitCommit(const Model& model, ReservationHandle reservation,
                               py::handle chunks) {
  const Call running;
  return ValueOrThrow(client_->SubmitCommit(CommitFrom(model, reservation, chunks)));
}

Ticket RawClient::SubmitLookup(const Model& model, py::handle keys, bool lease, double lease_ttl) {
  const Call running;
  return ValueOrThrow(client_->SubmitLookup(LookupFrom(model, keys, lease, lease_ttl)));
}

Ticket RawClient::SubmitGet(const Model& model, LeaseHandle lease, py::handle blocks) {
  const Call running;
  auto held = std::make_unique<HeldBuffers>();
  GetRequest request{.model = model, .lease = lease, .blocks = held->Destinations(blocks)};
  return SubmitHolding(held_, std::move(held),
                       [&] { return client_->SubmitGet(std::move(request)); });
}

py::tuple RawClient::Take(Completion completion) {
  // Released after the tuple is made: their owners may run code of their own.
  const auto held = held_.extract(completion.ticket);
  if (!completion.status.ok()) {
    return py::make_tuple(completion.ticket, ErrorFor(completion.status), py::none());
  }
  return py::make_tuple(completion.ticket, py::none(), ValueOf(completion.value));
}

py::list RawClient::Poll(size_t completions_max) {
  const Call running;
  py::list list;
  for (Completion& completion : client_->Poll(completions_max)) list.append(Take(completion));
  return list;
}

py::tuple RawClient::Wait(Ticket ticket, double timeout) {
  const Call running;
  const absl::Duration limit = Seconds(timeout, "timeout");
  return Take(ValueOrThrow(Unlocked([&] { return client_->Wait(ticket, limit); })));
}

int RawClient::event_fd() const {
  const Call running;
  return client_->event_fd();
}

bool RawClient::attached() const {
  const Call running;
  return Unlocked([&] { return client_->attached(); });
}
uint64_t RawClient::daemon_epoch() const {
  const Call running;
  return Unlocked([&] { return client_->daemon_epoch(); });
}
std::string RawClient::tenant() const {
  const Call running;
  return Unlocked([&] { return client_->tenant(); });
}
int RawClient::transport() const {
  const Call running;
  return static_cast<int>(Unlocked([&] { return client_->transport(); }));
}
std::string RawClient::transport_note() const {
  const Call running;
  return Unlocked([&] { return client_->transport_note(); });
}
void RawClient::WaitAttached(double timeout) const {
  const Call running;
  const absl::Duration limit = Seconds(timeout, "timeout");
  ThrowIfError(Unlocked([&] { return client_->WaitAttached(limit); }));
}

}  // namespace kvtier::python
