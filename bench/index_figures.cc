#include "bench/index_figures.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/page_memory.h"
#include "bench/samples.h"
#include "proto/wire/client_page.h"
#include "proto/wire/index_reader.h"
#include "proto/wire/section_protocol.h"
#include "tiering/base/check.h"
#include "tiering/base/rng.h"
#include "tiering/base/status_macros.h"
#include "tiering/share/tenant_share.h"

namespace kvtier::bench {
namespace {

using wire::IndexReader;
using wire::ResidencyWord;

constexpr size_t kBatch = 64;

// A random cycle through the cache lines of memory of the same pages.
class LineChase {
 public:
  LineChase(absl::Span<std::byte> memory, uint64_t lines, uint64_t seed)
      : lines_(reinterpret_cast<Line*>(memory.data())) {
    Rng rng(seed);
    for (uint64_t i = 0; i < lines; ++i) lines_[i].next = static_cast<uint32_t>(i);
    for (uint64_t i = lines - 1; i > 0; --i)  // Sattolo: one cycle
      std::swap(lines_[i].next, lines_[rng.Below(i)].next);
  }
  double MeasureNs(uint32_t loads) {
    const auto start = Clock::now();
    for (uint32_t i = 0; i < loads; ++i) at_ = lines_[at_].next;
    return NsSince(start, loads);
  }
  uint32_t position() const { return at_; }

 private:
  struct alignas(64) Line {
    uint32_t next;
  };
  Line* lines_;
  uint32_t at_ = 0;
};

// One index of a shape, full, and a reader of it.
class FilledIndex {
 public:
  static absl::StatusOr<std::unique_ptr<FilledIndex>> Create(const IndexShape& shape, PageKind kind,
                                                             const IndexFigureOptions& options) {
    const IndexLimits limits{shape.chunks, shape.chunks * shape.planes};
    const uint64_t touched = TouchedBytes(shape);
    KVTIER_ASSIGN_OR_RETURN(
        PageMemory memory,
        PageMemory::Create(static_cast<uint64_t>(TenantShare::BytesFor(limits).count()), touched,
                           kind));
    KVTIER_ASSIGN_OR_RETURN(PageMemory lines, PageMemory::Create(touched, touched, kind));
    auto index = std::unique_ptr<FilledIndex>(
        new FilledIndex(shape, std::move(memory), std::move(lines), options));
    KVTIER_RETURN_IF_ERROR(index->Fill(limits));
    return index;
  }

  // Every figure once, next to its ceiling.
  void Run() {
    const double line = chase_.MeasureNs(options_.accesses);
    // New ones each time: what was just read is in the cache.
    Draw();
    single_.Add(Single(), line);
    Draw();
    batch_.Add(Batch(), line);
    Draw();
    row_.Add(Row(), line);
    section_.Add(Section(), Exchange());
  }

  std::vector<Figure> Figures() const {
    KVTIER_CHECK(sum_ != 1 && chase_.position() != ~uint32_t{0});
    const std::string suffix = absl::StrFormat("_%dx%d", shape_.chunks, shape_.planes);
    std::string pages = memory_.what();
    if (memory_.page_bytes() > 4096 && memory_.HugeBytes() > 0) {
      absl::StrAppendFormat(&pages, " (%d MiB of it)", memory_.HugeBytes() >> 20);
    }
    const std::string common =
        absl::StrFormat("%d chunks of %d planes, %.1f bytes a block of index in use (%d MiB), %s",
                        shape_.chunks, shape_.planes,
                        static_cast<double>(share_->metadata_bytes().count()) /
                            static_cast<double>(shape_.chunks * shape_.planes),
                        share_->metadata_bytes().count() >> 20, pages);
    const std::string line =
        "ceiling: one dependent read of a random cache line over as much "
        "memory of such pages; ";
    const bool huge = memory_.page_bytes() > 4096;
    std::vector<Figure> figures = {
        single_.ToFigure("index_resolve_single" + suffix,
                         absl::StrCat("random block, each after the one before; ", line, common,
                                      "; to reach: ", huge ? 300 : 550, " ns")),
        batch_.ToFigure("index_resolve_batch64" + suffix,
                        absl::StrCat("a block of 64 random ones in one call; ", line, common,
                                     "; to reach: 60 ns")),
        row_.ToFigure("index_row" + suffix,
                      absl::StrCat("a block, of all planes of random chunks; ", line, common,
                                   "; to reach: 4 ns a block of a whole chunk")),
        section_.ToFigure("section_enter_leave" + suffix,
                          "enter and leave, nothing between; ceiling: an uncontended exchange, "
                          "which is a fence too; to reach: 30 ns")};
    for (Figure& figure : figures) figure.page_bytes = memory_.page_bytes();
    return figures;
  }

 private:
  FilledIndex(const IndexShape& shape, PageMemory memory, PageMemory lines,
              const IndexFigureOptions& options)
      : shape_(shape),
        options_(options),
        memory_(std::move(memory)),
        lines_(std::move(lines)),
        chase_(lines_.bytes(), TouchedBytes(shape) / wire::kLineBytes, options.seed),
        rng_(options.seed),
        page_(std::make_unique<wire::ClientPage>()) {}

  // Rows, and buckets with the overflow.
  static uint64_t TouchedBytes(const IndexShape& shape) {
    return shape.chunks * (wire::RowLines(shape.planes) * wire::kLineBytes + 24) + (1u << 20);
  }

  absl::Status Fill(const IndexLimits& limits) {
    KVTIER_ASSIGN_OR_RETURN(share_, TenantShare::Create({.memory = memory_.bytes(),
                                                         .limits = limits,
                                                         .daemon_epoch = 1,
                                                         .hash_seed = options_.seed}));
    for (uint64_t number = 0; number < shape_.chunks; ++number) {
      const uint32_t line = share_->AddRow({.key = KeyOf(number),
                                            .model = ModelId(0),
                                            .planes = static_cast<uint16_t>(shape_.planes),
                                            .token_count = 16,
                                            .parent = TenantShare::kNoLine,
                                            .row = static_cast<RowIndex>(number)});
      if (line == TenantShare::kNoLine) return absl::ResourceExhaustedError("the lines ended");
      for (uint32_t plane = 0; plane < shape_.planes; ++plane) {
        const auto copy = static_cast<uint32_t>(number * shape_.planes + plane);
        share_->SetBlock(line, plane, {ResidencyWord(copy, 1), {}, copy}, false);
      }
      if (!share_->Show(line)) return absl::ResourceExhaustedError("the buckets ended");
    }
    std::string why;
    reader_ = IndexReader::Create(memory_.bytes(), why);
    if (!reader_) return absl::InternalError(why);
    return absl::OkStatus();
  }

  void Draw() {
    keys_.resize(options_.accesses);
    planes_.resize(options_.accesses);
    for (size_t i = 0; i < keys_.size(); ++i) {
      keys_[i] = KeyOf(rng_.Below(shape_.chunks));
      planes_[i] = static_cast<uint32_t>(rng_.Below(shape_.planes));
    }
  }

  double Single() {
    uint64_t word = 0;
    const auto start = Clock::now();
    for (size_t i = 0; i < keys_.size(); ++i) {
      // The valid bit is always set, but only the word itself tells.
      const size_t at = i + (word >> 63) - (i > 0 ? 1 : 0);
      const IndexReader::Row row = reader_->Find(keys_[at], 0);
      word = IndexReader::Resolve(row, planes_[at]).bits();
      sum_ += word;
    }
    return NsSince(start, keys_.size());
  }

  double Batch() {
    std::array<ResidencyWord, kBatch> words;
    const auto start = Clock::now();
    for (size_t first = 0; first < keys_.size(); first += kBatch) {
      reader_->ResolveAll(absl::MakeConstSpan(keys_).subspan(first, kBatch), 0,
                          absl::MakeConstSpan(planes_).subspan(first, kBatch),
                          absl::MakeSpan(words));
      for (const ResidencyWord word : words) sum_ += word.bits();
    }
    return NsSince(start, keys_.size());
  }

  double Row() {
    std::array<IndexReader::Row, kBatch> rows;
    const size_t chunks = std::max<size_t>(kBatch, keys_.size() / 8 / kBatch * kBatch);
    const auto start = Clock::now();
    for (size_t first = 0; first < chunks; first += kBatch) {
      reader_->FindAll(absl::MakeConstSpan(keys_).subspan(first, kBatch), 0, absl::MakeSpan(rows),
                       shape_.planes);
      for (const IndexReader::Row& row : rows) {
        for (uint32_t plane = 0; plane < row.planes; ++plane)
          sum_ += IndexReader::Resolve(row, plane).bits();
      }
    }
    return NsSince(start, chunks * shape_.planes);
  }

  double Section() {
    const auto start = Clock::now();
    for (uint32_t i = 0; i < options_.accesses; ++i) {
      sum_ += wire::EnterSection(reader_->retire_epoch(), *page_, 0);
      wire::LeaveSection(page_->sections[0].section);
    }
    return NsSince(start, options_.accesses);
  }

  double Exchange() {
    const auto start = Clock::now();
    for (uint32_t i = 0; i < options_.accesses; ++i)
      sum_ += page_->sections[1].section.exchange(i, std::memory_order_seq_cst);
    return NsSince(start, options_.accesses);
  }

  const IndexShape shape_;
  const IndexFigureOptions options_;
  PageMemory memory_, lines_;
  LineChase chase_;
  Rng rng_;
  std::unique_ptr<wire::ClientPage> page_;
  std::unique_ptr<TenantShare> share_;
  std::optional<IndexReader> reader_;
  std::vector<wire::ChunkKey> keys_;
  std::vector<uint32_t> planes_;
  uint64_t sum_ = 0;  // keeps the compiler from dropping the loads
  Samples single_, batch_, row_, section_;
};

}  // namespace

absl::StatusOr<std::vector<Figure>> IndexFigures(const IndexFigureOptions& options) {
  if (options.runs < 1 || options.accesses < kBatch || options.accesses % kBatch != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.runs, " runs of ", options.accesses,
                     " accesses: 1 or more runs of a multiple of 64 are needed"));
  }
  std::vector<Figure> figures;
  std::string without;
  for (const IndexShape& shape : options.shapes) {
    if (shape.chunks < 1 || shape.chunks > 100'000'000 || shape.planes < 1 || shape.planes > 1024) {
      return absl::InvalidArgumentError(absl::StrCat(shape.chunks, " chunks of ", shape.planes,
                                                     " planes: at most 100,000,000 of 1 to 1024"));
    }
    for (const PageKind kind : {PageKind::kSmall, PageKind::kHuge}) {
      auto index = FilledIndex::Create(shape, kind, options);
      if (absl::IsUnavailable(index.status()) && kind == PageKind::kHuge) {
        without = absl::StrCat("; no figures with huge pages: ", index.status().message());
        continue;
      }
      KVTIER_RETURN_IF_ERROR(index.status());
      for (uint32_t run = 0; run < options.runs; ++run) (*index)->Run();
      for (Figure& figure : (*index)->Figures()) figures.push_back(std::move(figure));
    }
  }
  for (Figure& figure : figures) figure.note += without;
  return figures;
}

}  // namespace kvtier::bench
