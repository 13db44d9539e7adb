#include "client/python/bindings/raw_client.h"

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

// Whatever `call` returns, called without the GIL.
template <typename Call>
auto Without(Call&& call) {
  const ReleasedGil released;
  return call();
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
                     double call_timeout, uint32_t tickets_max, bool lazy) {
  CheckProcess();
  NoticeForks();
  ClientOptions options{.socket = socket,
                        .name = name,
                        .unavailable_after = Seconds(unavailable_after, "unavailable_after"),
                        .call_timeout = Seconds(call_timeout, "call_timeout"),
                        .tickets_max = tickets_max};
  client_ = ValueOrThrow(Without([&] {
    return lazy ? Client::Create(std::move(options)) : Client::Connect(std::move(options));
  }));
  LiveClients().insert(this);
}

RawClient::~RawClient() {
  LiveClients().erase(this);
  if (Forked()) {
    new std::shared_ptr<Client>(std::move(client_));
  } else {
    Close();
    const ReleasedGil released;
    client_.reset();
  }
}

std::shared_ptr<Client> RawClient::Checked() const {
  CheckProcess();
  return client_;
}

void RawClient::Close() {
  closed_ = true;
  if (Forked()) return;
  const std::shared_ptr<Client> client = client_;
  const std::vector<std::weak_ptr<WatchStream>> streams = std::exchange(streams_, {});
  for (const auto& weak : streams) {
    if (const auto stream = weak.lock()) stream->Close();
  }
  const ReleasedGil released;
  client->Close();
}

void RawClient::CloseAll() {
  // Copied: the GIL changes hands on the way.
  for (RawClient* client : std::vector<RawClient*>(LiveClients().begin(), LiveClients().end())) {
    if (LiveClients().count(client) != 0) client->Close();
  }
}

Model RawClient::RegisterModel(const py::tuple& geometry) {
  const auto client = Checked();
  const ModelGeometry wanted = GeometryFrom(geometry);
  return ValueOrThrow(Without([&] { return client->RegisterModel(wanted); }));
}

ReservationHandle RawClient::Reserve(const Model& model, py::handle parent, py::handle chunks,
                                     py::handle planes, int priority, double keep,
                                     bool do_not_store) {
  const auto client = Checked();
  auto request = ReserveFrom(model, parent, chunks, planes, priority, keep, do_not_store);
  return ValueOrThrow(Without([&] { return client->Reserve(std::move(request)); }));
}

void RawClient::Put(const Model& model, ReservationHandle reservation, py::handle blocks) {
  const auto client = Checked();
  HeldBuffers held;
  PutRequest request{.model = model, .reservation = reservation, .blocks = held.Sources(blocks)};
  ThrowIfError(Without([&] { return client->Put(std::move(request)); }));
}

py::object RawClient::Commit(const Model& model, ReservationHandle reservation, py::handle chunks) {
  const auto client = Checked();
  auto request = CommitFrom(model, reservation, chunks);
  return ValueOf(ValueOrThrow(Without([&] { return client->Commit(std::move(request)); })));
}

void RawClient::Abort(ReservationHandle reservation) {
  const auto client = Checked();
  ThrowIfError(Without([&] { return client->Abort(reservation); }));
}

py::object RawClient::Lookup(const Model& model, py::handle keys, bool lease, double lease_ttl) {
  const auto client = Checked();
  auto request = LookupFrom(model, keys, lease, lease_ttl);
  return ValueOf(ValueOrThrow(Without([&] { return client->Lookup(std::move(request)); })));
}

py::object RawClient::Get(const Model& model, LeaseHandle lease, py::handle blocks) {
  const auto client = Checked();
  HeldBuffers held;
  GetRequest request{.model = model, .lease = lease, .blocks = held.Destinations(blocks)};
  return ValueOf(ValueOrThrow(Without([&] { return client->Get(std::move(request)); })));
}

double RawClient::Renew(LeaseHandle lease, double ttl) {
  const auto client = Checked();
  const absl::Duration wanted = Seconds(ttl, "ttl");
  return absl::ToDoubleSeconds(ValueOrThrow(Without([&] { return client->Renew(lease, wanted); })));
}

void RawClient::Release(LeaseHandle lease) {
  const auto client = Checked();
  ThrowIfError(Without([&] { return client->Release(lease); }));
}

void RawClient::Report(LeaseHandle lease, py::handle reports) {
  const auto client = Checked();
  std::vector<ReadReport> wanted;
  for (const py::handle item : py::iter(reports)) {
    const auto parts = item.cast<py::tuple>();
    ReadReport report{.plane = Uint32(parts[0], "a report's plane"),
                      .steps = Uint32(parts[1], "a report's steps")};
    for (const py::handle mass : py::iter(parts[2])) report.mass.push_back(mass.cast<double>());
    wanted.push_back(std::move(report));
  }
  ThrowIfError(Without([&] { return client->Report(lease, wanted); }));
}

uint32_t RawClient::Prefetch(const Model& model, py::handle keys) {
  const auto client = Checked();
  const std::vector<Key> wanted = KeysFrom(keys);
  return ValueOrThrow(Without([&] { return client->Prefetch(model, wanted); }));
}

uint32_t RawClient::Forget(const Model& model, py::handle keys) {
  const auto client = Checked();
  const std::vector<Key> wanted = KeysFrom(keys);
  return ValueOrThrow(Without([&] { return client->Forget(model, wanted); }));
}

std::shared_ptr<WatchStream> RawClient::Watch(uint64_t after_sequence) {
  auto stream = std::make_shared<WatchStream>(Checked(), after_sequence);
  std::erase_if(streams_, [](const auto& known) { return known.expired(); });
  streams_.push_back(stream);
  return stream;
}

Ticket RawClient::SubmitReserve(const Model& model, py::handle parent, py::handle chunks,
                                py::handle planes, int priority, double keep, bool do_not_store) {
  const auto client = Checked();
  return ValueOrThrow(client->SubmitReserve(
      ReserveFrom(model, parent, chunks, planes, priority, keep, do_not_store)));
}

Ticket RawClient::SubmitPut(const Model& model, ReservationHandle reservation, py::handle blocks) {
  const auto client = Checked();
  auto held = std::make_unique<HeldBuffers>();
  PutRequest request{.model = model, .reservation = reservation, .blocks = held->Sources(blocks)};
  return SubmitHolding(held_, std::move(held),
                       [&] { return client->SubmitPut(std::move(request)); });
}

Ticket RawClient::SubmitCommit(const Model& model, ReservationHandle reservation,
                               py::handle chunks) {
  const auto client = Checked();
  return ValueOrThrow(client->SubmitCommit(CommitFrom(model, reservation, chunks)));
}

Ticket RawClient::SubmitLookup(const Model& model, py::handle keys, bool lease, double lease_ttl) {
  const auto client = Checked();
  return ValueOrThrow(client->SubmitLookup(LookupFrom(model, keys, lease, lease_ttl)));
}

Ticket RawClient::SubmitGet(const Model& model, LeaseHandle lease, py::handle blocks) {
  const auto client = Checked();
  auto held = std::make_unique<HeldBuffers>();
  GetRequest request{.model = model, .lease = lease, .blocks = held->Destinations(blocks)};
  return SubmitHolding(held_, std::move(held),
                       [&] { return client->SubmitGet(std::move(request)); });
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
  if (Forked()) CheckProcess();
  py::list list;
  for (Completion& completion : client_->Poll(completions_max)) list.append(Take(completion));
  return list;
}

py::tuple RawClient::Wait(Ticket ticket, double timeout) {
  const auto client = Checked();
  const absl::Duration limit = Seconds(timeout, "timeout");
  return Take(ValueOrThrow(Without([&] { return client->Wait(ticket, limit); })));
}

int RawClient::event_fd() const { return Checked()->event_fd(); }

bool RawClient::attached() const {
  const auto client = Checked();
  return Without([&] { return client->attached(); });
}
uint64_t RawClient::daemon_epoch() const {
  const auto client = Checked();
  return Without([&] { return client->daemon_epoch(); });
}
std::string RawClient::tenant() const {
  const auto client = Checked();
  return Without([&] { return client->tenant(); });
}
void RawClient::WaitAttached(double timeout) const {
  const auto client = Checked();
  const absl::Duration limit = Seconds(timeout, "timeout");
  ThrowIfError(Without([&] { return client->WaitAttached(limit); }));
}

}  // namespace kvtier::python
