#include "daemon/daemon.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/config_check.h"
#include "daemon/daemon_version.h"
#include "daemon/log.h"
#include "kernels/device_probe.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/topology_discovery.h"

namespace kvtier {
namespace {

// What calls get to end by themselves once nobody may begin new ones.
constexpr absl::Duration kCallGrace = absl::Milliseconds(500);

// Of a tenant that has all its clients: so that the next ones are told why they are refused.
constexpr uint32_t kHandshakesBeside = 16;

std::string DescribeDevices() {
  const DeviceReport report = ProbeDevices();
  if (report.devices.empty()) return report.reason;
  std::string text;
  for (const DeviceInfo& device : report.devices) {
    absl::StrAppend(&text, text.empty() ? "" : "; ", device.name, " (", device.pci_bus_id, ", ",
                    FormatBytes(Bytes(static_cast<int64_t>(device.memory_bytes))), ")");
  }
  return absl::StrCat(text, "; HBM pools are emulated in host memory all the same");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Create(v1::Config config) {
  auto daemon = std::unique_ptr<Daemon>(new Daemon(std::move(config)));
  KVTIER_RETURN_IF_ERROR(daemon->Start());
  return daemon;
}

absl::Status Daemon::Start() {
  // The socket first: a daemon that is there already must be found before memory is taken.
  KVTIER_ASSIGN_OR_RETURN(
      std::unique_ptr<UnixListener> listener,
      UnixListener::Create(config_.listen().socket(), config_.listen().socket_mode()));
  std::unique_ptr<UnixListener> attach_listener;
  ShareOptions share;
  KVTIER_ASSIGN_OR_RETURN(context_.epoch, RandomEpoch());
  if (config_.listen().shared_memory()) {
    KVTIER_ASSIGN_OR_RETURN(
        attach_listener,
        UnixListener::Create(AttachSocketOf(config_), config_.listen().socket_mode(),
                             absl::Seconds(5), SOCK_SEQPACKET));
    context_.shared_memory_socket = attach_listener->path();
    KVTIER_ASSIGN_OR_RETURN(indexes_, BuildIndexes(config_));
    KVTIER_ASSIGN_OR_RETURN(share, ShareIndexes(indexes_, context_.epoch));
  }
  KVTIER_ASSIGN_OR_RETURN(topology_, DiscoverTopology());
  auto signal = std::make_shared<TickSignal>();
  KVTIER_ASSIGN_OR_RETURN(BuiltEngine built,
                          BuildEngine(
                              config_, topology_, [signal] { signal->Wake(); }, std::move(share)));
  pools_ = built.pools;
  for (const HostPool* pool : pools_) {
    if (const std::string note = pool->stats().page_note; !note.empty()) {
      log::Warn("a pool has small pages", {{"pool", pool->description().name}, {"reason", note}});
    }
    if (const std::string note = pool->stats().holder_note; !note.empty()) {
      log::Warn("nobody knows what clients keep of a pool's segments that were given back",
                {{"pool", pool->description().name}, {"reason", note}});
    }
  }
  host_ = std::make_unique<EngineHost>(std::move(built.engine), &clock_, std::move(signal),
                                       static_cast<size_t>(config_.tenants_size()));
  KVTIER_RETURN_IF_ERROR(StartWatcher());
  KVTIER_RETURN_IF_ERROR(StartServers(built.salts));
  if (const uint64_t rate = config_.limits().scrub_bytes_per_second(); rate > 0) {
    scrubber_ = std::make_unique<Scrubber>(Scrubber::Options{
        .host = host_.get(), .bytes_per_second = Bytes(static_cast<int64_t>(rate))});
  }
  ConnectionAcceptor::Options accept{.listener = std::move(listener),
                                     .tenants = TenantByUid(config_),
                                     .watcher = watcher_.get(),
                                     .hand_over = [this](TenantId tenant, int fd) {
                                       servers_[tenant.value()]->AddConnection(fd);
                                     }};
  KVTIER_ASSIGN_OR_RETURN(acceptor_, ConnectionAcceptor::Create(std::move(accept)));
  // After the acceptor, which has the other socket: where the start fails, the listener that made
  // the directory goes last. Who is told of this one already waits in its backlog.
  if (attach_listener != nullptr) KVTIER_RETURN_IF_ERROR(StartSharing(std::move(attach_listener)));
  if (!config_.listen().http().empty()) {
    KVTIER_ASSIGN_OR_RETURN(HttpAddress address, ParseHttpAddress(config_.listen().http()));
    KVTIER_ASSIGN_OR_RETURN(http_,
                            HttpServer::Create({.address = std::move(address),
                                                .metrics = [this] { return Metrics(); },
                                                .not_ready = [this] { return NotReady(); }}));
    log::Info("http is served", {{"address", config_.listen().http()}, {"port", http_->port()}});
  }
  return absl::OkStatus();
}

absl::Status Daemon::StartWatcher() {
  ProcessWatcher::Options watch;
  watch.connections_max = config_.limits().connections_max();
  watch.sessions_max = config_.limits().sessions_max();
  watch.tenants = static_cast<uint32_t>(config_.tenants_size());
  for (int i = 0; i < config_.tenants_size(); ++i) {
    if (config_.tenants(i).admin()) watch.admins.emplace_back(static_cast<uint16_t>(i));
  }
  watch.session_known = [this](TenantId tenant, SessionId session) {
    return host_->With([&](Engine& engine, absl::Time) {
      return engine.HasSession({tenant, session});
    });
  };
  watch.on_process_end = [this](TenantId tenant, const std::vector<SessionId>& sessions) {
    for (const SessionId session : sessions) {
      const absl::Status ended = host_->With([&](Engine& engine, absl::Time) {
        return engine.Detach({tenant, session});
      });
      if (!ended.ok()) continue;  // it timed out before
      ++sessions_ended_by_process_;
      const std::string& name = config_.tenants(tenant.value()).name();
      log::TenantInfo(name, "session ended with its process",
                      {{"session", session.value()}, {"tenant", name}});
    }
  };
  KVTIER_ASSIGN_OR_RETURN(watcher_, ProcessWatcher::Create(std::move(watch)));
  return absl::OkStatus();
}

absl::Status Daemon::StartSharing(std::unique_ptr<UnixListener> listener) {
  SharedMemory memory;
  memory.host = host_.get();
  memory.watcher = watcher_.get();
  memory.drain = drain_.get();
  memory.pools = pools_;
  memory.daemon_epoch = context_.epoch;
  for (const std::unique_ptr<SharedRegion>& index : indexes_) memory.indexes.push_back(index.get());
  for (const v1::TenantConfig& tenant : config_.tenants()) memory.tenants.push_back(tenant.name());
  const uint32_t share =
      config_.limits().sessions_max() / static_cast<uint32_t>(config_.tenants_size());
  AttachServer::Options options{.listener = std::move(listener),
                                .tenants = TenantByUid(config_),
                                .channels_max = std::max(1u, share) + kHandshakesBeside,
                                .memory = std::move(memory)};
  KVTIER_ASSIGN_OR_RETURN(attach_server_, AttachServer::Create(std::move(options)));
  return absl::OkStatus();
}

absl::Status Daemon::StartServers(const std::vector<std::string>& salts) {
  context_.host = host_.get();
  context_.watcher = watcher_.get();
  context_.metrics = &rpc_metrics_;
  context_.drain = drain_.get();
  context_.config = &config_;
  context_.topology = &topology_;
  context_.devices = DescribeDevices();
  context_.daemon_version = kDaemonVersion;
  context_.started = std::chrono::steady_clock::now();
  for (int i = 0; i < config_.tenants_size(); ++i) {
    const v1::TenantConfig& tenant = config_.tenants(i);
    KVTIER_ASSIGN_OR_RETURN(std::unique_ptr<TenantServer> server,
                            TenantServer::Create({.daemon = &context_,
                                                  .id = TenantId(static_cast<uint16_t>(i)),
                                                  .name = tenant.name(),
                                                  .salt = salts[static_cast<size_t>(i)],
                                                  .admin = tenant.admin()}));
    servers_.push_back(std::move(server));
  }
  return absl::OkStatus();
}

Daemon::~Daemon() {
  drain_->BeginDrain();
  // No new connections, then no new calls, then the waits of running ones end. Clients learn by
  // their closed channels that nothing they have mapped is kept for them any more.
  http_.reset();
  if (attach_server_ != nullptr) attach_server_->Stop();
  acceptor_.reset();
  if (host_ != nullptr) host_->Interrupt();
  // All at once: each may take the whole grace.
  std::vector<std::thread> stopping;
  for (const auto& server : servers_) {
    stopping.emplace_back([&server] { server->Shutdown(kCallGrace); });
  }
  for (std::thread& thread : stopping) thread.join();
}

bool Daemon::Drain(absl::Duration deadline) {
  drain_->BeginDrain();
  return host_->WaitUntil(
      [](Engine& engine) {
        const EngineTotals totals = engine.Totals(std::nullopt);
        return totals.leases == 0 && totals.reservations == 0;
      },
      deadline);
}

std::string Daemon::Metrics() {
  MetricsSnapshot snapshot;
  snapshot.version = kDaemonVersion;
  snapshot.uptime_seconds =
      absl::ToDoubleSeconds(absl::FromChrono(std::chrono::steady_clock::now() - context_.started));
  snapshot.draining = drain_->draining();
  for (const v1::TenantConfig& tenant : config_.tenants())
    snapshot.tenants.push_back(tenant.name());
  host_->With([&](Engine& engine, absl::Time) {
    snapshot.counters = engine.counters();
    snapshot.metadata = engine.MetadataBytes();
    snapshot.pools = engine.Pools();
    snapshot.shared_clients = engine.SharedClients();
    snapshot.moves_in_flight = engine.Totals(std::nullopt).moves_in_flight;
    for (size_t i = 0; i < snapshot.tenants.size(); ++i) {
      snapshot.tenant_totals.push_back(engine.Totals(TenantId(static_cast<uint16_t>(i))));
    }
  });
  snapshot.connections = watcher_->connections();
  snapshot.connections_accepted = acceptor_->accepted();
  snapshot.connections_refused_uid = acceptor_->refused_uid();
  snapshot.connections_refused_limit = acceptor_->refused_limit();
  snapshot.processes_ended = sessions_ended_by_process_;
  if (attach_server_ != nullptr) {
    snapshot.shared_attached = attach_server_->attached();
    snapshot.shared_refused = attach_server_->refused();
  }
  if (scrubber_ != nullptr) snapshot.scrubbed_bytes = scrubber_->scrubbed_bytes();
  snapshot.rpc = &rpc_metrics_;
  return MetricsText(snapshot);
}

std::string Daemon::NotReady() const {
  if (drain_->draining()) return "draining";
  for (const HostPool* pool : pools_) {
    const HostPoolStats stats = pool->stats();
    if (stats.segments_active == 0 && stats.segments_ready == 0) {
      return absl::StrCat("pool ", pool->description().name, " has no segment yet",
                          stats.growth.ok() ? "" : ": ", stats.growth.message());
    }
  }
  return "";
}

}  // namespace kvtier
