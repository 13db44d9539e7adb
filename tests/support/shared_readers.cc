#include "tests/support/shared_readers.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "proto/wire/report_ring.h"
#include "proto/wire/section_protocol.h"
#include "tiering/base/rng.h"

namespace kvtier::test_support {
namespace {

// The lower half of the words is for sections that are meant; the rest is scribbled over.
constexpr uint32_t kOwnWords = 128;

}  // namespace

std::string SharedReaders::Attach(Caller caller, std::string& done) {
  if (!enabled() || readers_.size() == kReadersMax) return "";
  const bool has_one = std::any_of(readers_.begin(), readers_.end(), [&](const Reader& reader) {
    return reader.caller.session == caller.session;
  });
  const auto of_tenant = std::count_if(readers_.begin(), readers_.end(), [&](const Reader& reader) {
    return reader.caller.tenant == caller.tenant;
  });
  const EngineLimits& limits = fixture_->options().limits;
  const auto most = std::max<int64_t>(1, limits.sessions_max / fixture_->options().tenants);
  auto page = std::make_unique<wire::ClientPage>();
  const auto client = fixture_->engine().AttachShared(caller, page.get());
  absl::StatusCode expected = absl::StatusCode::kOk;
  if (!model_->SessionAlive(caller)) {
    expected = absl::StatusCode::kNotFound;
  } else if (has_one) {
    expected = absl::StatusCode::kFailedPrecondition;
  } else if (of_tenant >= most) {
    expected = absl::StatusCode::kResourceExhausted;
  }
  if (client.status().code() != expected) {
    return absl::StrCat("AttachShared: ", client.status().ToString(), " instead of ",
                        absl::StatusCodeToString(expected));
  }
  if (!client.ok()) {
    done = absl::StrCat("AttachShared ", absl::StatusCodeToString(expected));
    return "";
  }
  std::string why;
  const auto index =
      wire::IndexReader::Create(fixture_->index_memory()[caller.tenant.value()]->bytes(), why);
  if (!index) return why;
  readers_.push_back({caller,
                      *client,
                      std::move(page),
                      std::make_unique<wire::IndexReader>(*index),
                      0,
                      false,
                      {}});
  done = "AttachShared";
  return "";
}

std::string SharedReaders::Open(uint8_t which, ModelId model, absl::Span<const wire::ChunkKey> keys,
                                bool by_timeline, std::string& done) {
  Reader* reader = Choose(which);
  if (reader == nullptr || reader->sections.size() == kSectionsMax) return "";
  const ModelSpec* spec = model_->Model(reader->caller.tenant, model);
  Section section;
  section.slot = reader->next_slot++ % kOwnWords;
  wire::SectionSlot& words = reader->page->sections[section.slot];
  words.section.store(0, std::memory_order_release);
  uint64_t end = 0;
  if (by_timeline) {
    section.timeline = section.slot + 1;
    end = wire::SectionEnd::Pack(section.slot, reader->page->timeline[section.slot].load() + 1);
  }
  words.end.store(end, std::memory_order_release);
  wire::EnterSection(reader->index->retire_epoch(), *reader->page, section.slot);
  std::vector<wire::IndexReader::Row> rows(keys.size());
  reader->index->FindAll(keys, model.value(), absl::MakeSpan(rows));
  for (size_t i = 0; spec != nullptr && i < keys.size(); ++i) {
    const uint64_t chunk = model_->VisibleId(reader->caller.tenant, model, keys[i]);
    if ((chunk != 0) != bool{rows[i]}) {
      return absl::StrCat("key ", keys[i].ToHex(), rows[i] ? " is" : " is not",
                          " in the shared index; the model says otherwise");
    }
    if (!rows[i]) continue;
    HeldRow held{rows[i], keys[i], {}};
    for (uint16_t plane = 0; plane < rows[i].planes; ++plane) {
      Target target;
      target.word = wire::IndexReader::Resolve(rows[i], plane);
      if (target.word.valid() != model_->Chunk(chunk).planes.contains(plane))
        return absl::StrCat("plane ", plane, " of ", keys[i].ToHex(), " is there by one only");
      if (!target.word.valid()) continue;
      const int64_t bytes = spec->planes[plane].bytes_per_chunk.count();
      target.slot = {PoolId(static_cast<uint8_t>(target.word.pool())),
                     SegmentIndex(target.word.segment()),
                     Bytes((bytes + 63) / 64 * 64 * target.word.slot())};
      target.address = fixture_->pool(target.word.pool()).Address(target.slot.segment);
      target.address += target.slot.offset.count();
      target.bytes.assign(target.address, target.address + bytes);
      held.targets.push_back(std::move(target));
    }
    section.rows.push_back(std::move(held));
    done = "shared section holds blocks";
  }
  reader->sections.push_back(std::move(section));
  return "";
}

std::string SharedReaders::Leave(uint8_t which, std::string& done) {
  Reader* reader = Choose(which);
  if (reader == nullptr || reader->sections.empty()) return "";
  const Section section = std::move(reader->sections.front());
  reader->sections.erase(reader->sections.begin());
  std::string wrong;
  wire::ReportProducer reports(reader->page.get());
  for (const HeldRow& held : section.rows) {
    if (wrong.empty()) wrong = CheckRow(held);
    if (reader->scribbled) continue;
    reports.Write({.row = held.row.name(), .steps = 1, .plane = 0, .log_mass = 200});
    reports.Write({.row = held.row.name()});
    reports.Write({.row = held.row.name() ^ uint64_t{7} << 40});
  }
  done = section.timeline != 0 ? "shared section ended by a timeline" : "shared section left";
  if (section.timeline != 0) {
    reader->page->timeline[section.timeline - 1].fetch_add(1, std::memory_order_release);
  } else {
    wire::LeaveSection(reader->page->sections[section.slot].section);
  }
  return wrong;
}

void SharedReaders::Scribble(uint8_t which, uint64_t seed, std::string& done) {
  Reader* reader = Choose(which);
  if (reader == nullptr) return;
  reader->scribbled = true;
  Rng rng(seed);
  wire::ClientPage& page = *reader->page;
  const auto nonsense = [&] { return rng.OneIn(2) ? rng.Next() : rng.Below(100); };
  for (int i = 0; i < 20; ++i) {
    const size_t word = kOwnWords + rng.Below(kOwnWords);
    page.sections[word].section.store(nonsense());
    page.sections[word].end.store(nonsense() << (rng.OneIn(2) ? 48 : 0));
    page.timeline[word].store(nonsense());
    page.reports[rng.Below(wire::kReportRecords)].row.store(nonsense());
    page.reports[rng.Below(wire::kReportRecords)].read.store(nonsense());
  }
  for (size_t i = kOwnWords / 64; i < page.used.size(); ++i) page.used[i].store(nonsense());
  page.produced.store(nonsense());
  page.consumed.store(nonsense());
  page.dropped.store(nonsense());
  done = "a client scribbled over its page";
}

std::string SharedReaders::End(uint8_t which, std::string& done) {
  Reader* reader = Choose(which);
  if (reader == nullptr) return "";
  std::string wrong;
  for (const Section& section : reader->sections) {
    for (const HeldRow& held : section.rows) {
      if (wrong.empty()) wrong = CheckRow(held);
    }
  }
  fixture_->engine().EndShared(reader->client);
  fixture_->engine().EndShared(reader->client);  // once more does nothing
  done = reader->sections.empty() ? "shared client ended" : "shared client ended in a section";
  readers_.erase(readers_.begin() + (reader - readers_.data()));
  return wrong;
}

std::string SharedReaders::Finish() {
  std::string done;
  while (!readers_.empty()) {
    if (const std::string wrong = End(0, done); !wrong.empty()) return wrong;
  }
  return "";
}

std::string SharedReaders::Ticked() {
  const std::vector<SharedClientStatus> statuses = fixture_->engine().SharedClients();
  if (statuses.size() != readers_.size())
    return absl::StrCat(statuses.size(), " shared clients instead of ", readers_.size());
  for (Reader& reader : readers_) {
    absl::Duration longest;
    for (Section& section : reader.sections) {
      if (!section.seen) section.seen = fixture_->now();
      longest = std::max(longest, fixture_->now() - *section.seen);
    }
    const auto status =
        std::find_if(statuses.begin(), statuses.end(),
                     [&](const SharedClientStatus& s) { return s.client == reader.client; });
    if (status == statuses.end()) return "a shared client is not listed";
    if (reader.scribbled) continue;
    if (status->open_sections != reader.sections.size() || status->longest != longest ||
        status->over_limit != (longest > fixture_->options().limits.section_max)) {
      return absl::StrCat("a client with ", reader.sections.size(), " sections, the longest ",
                          absl::FormatDuration(longest), ", is said to have ",
                          status->open_sections, ", ", absl::FormatDuration(status->longest));
    }
  }
  return "";
}

std::optional<ShmClientId> SharedReaders::ClientOf(Caller caller) const {
  for (const Reader& reader : readers_) {
    if (reader.caller.session == caller.session && reader.caller.tenant == caller.tenant)
      return reader.client;
  }
  return std::nullopt;
}

bool SharedReaders::OverLimit(Caller caller) const {
  const std::vector<SharedClientStatus> statuses = fixture_->engine().SharedClients();
  return std::any_of(statuses.begin(), statuses.end(), [&](const SharedClientStatus& status) {
    return status.session == caller.session && status.over_limit;
  });
}

std::string SharedReaders::CheckRow(const HeldRow& held) const {
  const wire::RowHeader& header = *held.row.header;
  if (header.key[0].load() != held.key.low() || header.key[1].load() != held.key.high())
    return absl::StrCat("the row of ", held.key.ToHex(), " is another's while a section holds it");
  for (const Target& target : held.targets) {
    if (!fixture_->pool(target.word.pool()).exists(target.slot.segment)) {
      return absl::StrCat("segment ", target.slot.segment.value(), " of pool ", target.word.pool(),
                          " was given back while a section holds a slot in it");
    }
    if (std::memcmp(target.address, target.bytes.data(), target.bytes.size()) != 0) {
      return absl::StrCat("bytes of ", held.key.ToHex(), " in pool ", target.word.pool(),
                          " segment ", target.slot.segment.value(), " slot ", target.word.slot(),
                          " changed while a section holds them");
    }
  }
  return "";
}

std::string SharedReaders::CheckHeld() const {
  for (const Reader& reader : readers_) {
    for (const Section& section : reader.sections) {
      for (const HeldRow& held : section.rows) {
        if (std::string wrong = CheckRow(held); !wrong.empty()) return wrong;
      }
    }
  }
  return "";
}

std::string SharedReaders::CheckIndex() const {
  if (!enabled()) return "";
  if (fixture_->engine().counters().index_refusals > 0) return "a row did not fit into the index";
  std::map<uint16_t, wire::IndexReader> indexes;
  for (uint16_t tenant = 0; tenant < fixture_->options().tenants; ++tenant) {
    std::string why;
    const auto index = wire::IndexReader::Create(fixture_->index_memory()[tenant]->bytes(), why);
    if (!index) return why;
    indexes.emplace(tenant, *index);
  }
  for (const auto& [id, chunk] : model_->chunks()) {
    const wire::IndexReader::Row row =
        indexes.at(chunk.tenant.value()).Find(chunk.key, chunk.model.value());
    const bool visible = model_->VisibleId(chunk.tenant, chunk.model, chunk.key) != 0;
    if (visible != bool{row}) {
      return absl::StrCat("chunk ", chunk.key.ToHex(), visible ? " is not" : " is",
                          " in the shared index");
    }
  }
  return "";
}

void SharedReaders::Damaged(const std::byte* address) {
  for (Reader& reader : readers_) {
    for (Section& section : reader.sections) {
      for (HeldRow& held : section.rows) {
        for (Target& target : held.targets) {
          if (target.address == address) target.bytes[0] ^= std::byte{1};
        }
      }
    }
  }
}

}  // namespace kvtier::test_support
