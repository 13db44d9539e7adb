#include "bench/in_place_figures.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/copy_ceiling.h"
#include "kvtier/client.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"
#include "tiering/host/host_segment.h"

namespace kvtier::bench {
namespace {

void Shuffle(std::vector<uint32_t>& numbers, Rng& rng) {
  for (size_t i = numbers.size(); i > 1; --i) std::swap(numbers[i - 1], numbers[rng.Below(i)]);
}

// Memory of the client's own, in blocks.
class Region {
 public:
  static absl::StatusOr<std::unique_ptr<Region>> Create(const InPlaceFigureOptions& options) {
    auto region = std::make_unique<Region>();
    region->block_bytes = static_cast<size_t>(options.block_bytes.count());
    KVTIER_ASSIGN_OR_RETURN(region->memory, HostSegment::Create({.name = "kvtier:bench",
                                                                 .bytes = options.region_bytes,
                                                                 .huge_pages = false}));
    KVTIER_RETURN_IF_ERROR(region->memory->Populate(Bytes(0), options.region_bytes));
    return region;
  }
  std::byte* block(uint32_t number) const { return memory->address() + number * block_bytes; }

  std::unique_ptr<HostSegment> memory;
  size_t block_bytes = 0;
};

double SecondsOf(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Measurement {
 public:
  explicit Measurement(const InPlaceFigureOptions& options)
      : options_(options),
        blocks_(static_cast<uint32_t>(options.region_bytes / options.block_bytes)),
        rng_(options.seed) {}

  absl::Status Prepare() {
    KVTIER_ASSIGN_OR_RETURN(source_, Region::Create(options_));
    KVTIER_ASSIGN_OR_RETURN(destination_, Region::Create(options_));
    for (int64_t i = 0; i < options_.region_bytes.count(); i += 8) {
      const uint64_t word = rng_.Next();
      std::memcpy(source_->memory->address() + i, &word, sizeof(word));
    }
    KVTIER_ASSIGN_OR_RETURN(client_, Connect(Verify::kFirstRead));
    KVTIER_ASSIGN_OR_RETURN(model_, client_->RegisterModel(Geometry()));
    KVTIER_ASSIGN_OR_RETURN(reservation_,
                            client_->Reserve({.model = model_, .chunk_count = blocks_}));
    // Fails where the reservation is not in place.
    KVTIER_RETURN_IF_ERROR(client_->Buffers(reservation_, 0).status());
    KVTIER_ASSIGN_OR_RETURN(counters_before_, options_.counters());
    loop_ = FastestLoop();
    return absl::OkStatus();
  }

  absl::StatusOr<Figure> Put() {
    std::vector<uint32_t> order = Order();
    const auto run = [&](size_t first) -> absl::Status {
      PutRequest put{.model = model_, .reservation = reservation_};
      for (int i = 0; i < options_.blocks_per_run; ++i) {
        const uint32_t block = order[(first + static_cast<size_t>(i)) % order.size()];
        put.blocks.push_back({.chunk = block, .pieces = {{source_->block(block), BlockBytes()}}});
      }
      absl::Status status;
      seconds_.push_back(SecondsOf([&] { status = client_->Put(std::move(put)); }));
      return status;
    };
    return Measure("put_in_place", "Put, hashed on the way, into slots of the client's inbox", run);
  }

  // What was put, and all that was not yet.
  absl::Status Commit() {
    PutRequest put{.model = model_, .reservation = reservation_};
    CommitRequest commit{.model = model_, .reservation = reservation_};
    std::random_device random;
    keys_ = model_.PrefixKeys(std::vector<uint32_t>(size_t{blocks_} * kChunkTokens, 1),
                              absl::StrCat(random(), "-", random()));
    for (uint32_t i = 0; i < blocks_; ++i) {
      put.blocks.push_back({.chunk = i, .pieces = {{source_->block(i), BlockBytes()}}});
      commit.chunks.push_back({.chunk = i, .key = keys_[i], .token_count = kChunkTokens});
    }
    KVTIER_RETURN_IF_ERROR(client_->Put(std::move(put)));
    return client_->Commit(std::move(commit)).status();
  }

  absl::StatusOr<Figure> Get(Verify verify) {
    const bool verified = verify != Verify::kOff;
    KVTIER_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Connect(verify));
    KVTIER_ASSIGN_OR_RETURN(const Model model, client->RegisterModel(Geometry()));
    KVTIER_ASSIGN_OR_RETURN(const Match match, client->Lookup({.model = model, .keys = keys_}));
    if (match.chunks != blocks_) {
      return absl::InternalError(
          absl::StrFormat("%d of %d chunks are there", match.chunks, blocks_));
    }
    std::vector<uint32_t> order = Order();
    const auto get = [&](size_t first, int count) -> absl::Status {
      GetRequest request{.model = model, .lease = match.lease};
      for (int i = 0; i < count; ++i) {
        const uint32_t block = order[(first + static_cast<size_t>(i)) % order.size()];
        request.blocks.push_back(
            {.chunk = block, .pieces = {{destination_->block(block), BlockBytes()}}});
      }
      absl::StatusOr<GetResult> result;
      seconds_.push_back(SecondsOf([&] { result = client->Get(std::move(request)); }));
      if (result.ok() && !result->all_ok) return absl::DataLossError("a block could not be read");
      return result.status();
    };
    // Maps the segments. The rest is as it stays.
    KVTIER_RETURN_IF_ERROR(get(0, static_cast<int>(blocks_)));
    std::memset(destination_->memory->address(), 0,
                static_cast<size_t>(options_.region_bytes.count()));
    seconds_.clear();
    KVTIER_ASSIGN_OR_RETURN(
        Figure figure, Measure(verified ? "get_in_place" : "get_in_place_unverified",
                               verified ? "Get, hashed on the way" : "Get with verification off",
                               [&](size_t first) { return get(first, options_.blocks_per_run); }));
    KVTIER_RETURN_IF_ERROR(get(0, static_cast<int>(blocks_)));
    seconds_.clear();
    if (std::memcmp(source_->memory->address(), destination_->memory->address(),
                    static_cast<size_t>(options_.region_bytes.count())) != 0) {
      return absl::InternalError("what was got is not what was put");
    }
    KVTIER_RETURN_IF_ERROR(client->Release(match.lease));
    return figure;
  }

  // The daemon has neither hashed, nor moved, nor sent a byte.
  absl::Status CheckDaemonCopies() {
    KVTIER_ASSIGN_OR_RETURN(const auto counters, options_.counters());
    for (const char* name : {"verified_bytes", "moved_bytes"}) {
      const auto before = counters_before_.find(name);
      const auto now = counters.find(name);
      if (before == counters_before_.end() || now == counters.end()) {
        return absl::InternalError(absl::StrCat("kvtierd has no counter ", name));
      }
      if (before->second != now->second) {
        return absl::InternalError(
            absl::StrFormat("kvtierd's %s rose by %d", name, now->second - before->second));
      }
    }
    return absl::OkStatus();
  }

  void Forget() {
    if (!keys_.empty()) (void)client_->Forget(model_, {keys_[0]});
  }

 private:
  static constexpr uint32_t kChunkTokens = 16;

  size_t BlockBytes() const { return static_cast<size_t>(options_.block_bytes.count()); }
  ModelGeometry Geometry() const {
    ModelGeometry geometry;
    geometry.name = "kvtier.bench.in_place";
    geometry.chunk_tokens = kChunkTokens;
    geometry.planes = {{.name = "layer.0", .bytes_per_chunk = BlockBytes()}};
    return geometry;
  }
  absl::StatusOr<std::unique_ptr<Client>> Connect(Verify verify) const {
    return Client::Connect({.socket = options_.socket,
                            .name = "kvtier bench copy",
                            .transport = Transport::kSharedMemory,
                            .verify = verify});
  }
  std::vector<uint32_t> Order() {
    std::vector<uint32_t> order(blocks_);
    std::iota(order.begin(), order.end(), 0);
    Shuffle(order, rng_);
    return order;
  }

  // One run of the plain loop.
  double Plain(const CeilingLoop& loop, const std::vector<uint32_t>& order, size_t first) {
    return SecondsOf([&] {
      for (int i = 0; i < options_.blocks_per_run; ++i) {
        const uint32_t block = order[(first + static_cast<size_t>(i)) % order.size()];
        loop.copy(destination_->block(block), source_->block(block), BlockBytes());
      }
    });
  }
  const CeilingLoop* FastestLoop() {
    const CeilingLoop* fastest = nullptr;
    double best = 0;
    const std::vector<uint32_t> order = Order();
    for (const CeilingLoop& loop : CeilingLoops()) {
      std::vector<double> seconds;
      for (int run = 0; run < options_.runs / 4 + 1; ++run) {
        seconds.push_back(Plain(loop, order, size_t(run) * size_t(options_.blocks_per_run)));
      }
      const double median = Quantile(seconds, 0.5);
      if (fastest == nullptr || median < best) {
        fastest = &loop;
        best = median;
      }
    }
    return fastest;
  }

  // `run(first)` copies blocks and notes its seconds.
  absl::StatusOr<Figure> Measure(const char* name, const char* what,
                                 const std::function<absl::Status(size_t)>& run) {
    std::vector<double> rates, ceilings, ratios;
    const std::vector<uint32_t> order = Order();
    const double bytes = static_cast<double>(BlockBytes()) * options_.blocks_per_run;
    for (int i = 0; i < options_.runs; ++i) {
      KVTIER_RETURN_IF_ERROR(options_.check());
      const size_t first = static_cast<size_t>(i) * static_cast<size_t>(options_.blocks_per_run);
      const double plain_first = i % 2 == 0 ? Plain(*loop_, order, first) : 0;
      KVTIER_RETURN_IF_ERROR(run(first));
      const double plain = i % 2 == 0 ? plain_first : Plain(*loop_, order, first);
      rates.push_back(bytes / seconds_.back() / 1e9);
      ceilings.push_back(bytes / plain / 1e9);
      ratios.push_back(plain / seconds_.back());
    }
    seconds_.clear();
    return Figure{.name = name,
                  .value = Quantile(rates, 0.5),
                  .p50 = Quantile(rates, 0.5),
                  .p99 = Quantile(rates, 0.01),
                  .unit = "GB/s",
                  .ceiling = Quantile(ceilings, 0.5),
                  .ratio = Quantile(ratios, 0.5),
                  .runs = options_.runs,
                  .page_bytes = KiB(4).count(),
                  .note = absl::StrFormat(
                      "%s; cold blocks of %s out of %s, %d in a call, copies by the daemon: 0; "
                      "ceiling: the fastest plain loop, here %s",
                      what, FormatBytes(options_.block_bytes), FormatBytes(options_.region_bytes),
                      options_.blocks_per_run, loop_->description)};
  }

  const InPlaceFigureOptions& options_;
  const uint32_t blocks_;
  Rng rng_;
  std::unique_ptr<Region> source_;
  std::unique_ptr<Region> destination_;
  std::unique_ptr<Client> client_;
  Model model_;
  ReservationHandle reservation_ = 0;
  std::vector<Key> keys_;
  std::map<std::string, uint64_t> counters_before_;
  const CeilingLoop* loop_ = nullptr;
  std::vector<double> seconds_;
};

}  // namespace

absl::StatusOr<std::vector<Figure>> InPlaceFigures(const InPlaceFigureOptions& options) {
  if (options.block_bytes < KiB(4) || options.block_bytes.count() % 4096 != 0 ||
      options.region_bytes < options.block_bytes ||
      options.region_bytes.count() % options.block_bytes.count() != 0 ||
      options.blocks_per_run < 1 || options.runs < 1) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d runs of %d blocks of %d bytes out of %d", options.runs, options.blocks_per_run,
        options.block_bytes.count(), options.region_bytes.count()));
  }
  Measurement measurement(options);
  KVTIER_RETURN_IF_ERROR(measurement.Prepare());
  std::vector<Figure> figures;
  KVTIER_ASSIGN_OR_RETURN(const Figure put, measurement.Put());
  figures.push_back(put);
  KVTIER_RETURN_IF_ERROR(measurement.Commit());
  for (const Verify verify : {Verify::kFirstRead, Verify::kOff}) {
    const auto get = measurement.Get(verify);
    if (!get.ok()) {
      measurement.Forget();
      return get.status();
    }
    figures.push_back(*get);
  }
  absl::Status copies = measurement.CheckDaemonCopies();
  measurement.Forget();
  if (!copies.ok()) return copies;
  return figures;
}

}  // namespace kvtier::bench
