#include "tests/support/in_place_writer.h"

#include <cstring>

#include "tests/support/block_content.h"
#include "tiering/base/check.h"
#include "tiering/base/status_macros.h"

namespace kvtier::test_support {

absl::StatusOr<std::byte*> InPlaceAddress(EngineFixture& fixture, ShmClientId client,
                                          wire::ResidencyWord word) {
  if (fixture.engine().GrantSegment(client, word, true).ok())
    KVTIER_RETURN_IF_ERROR(fixture.engine().SegmentSealed(client, word));
  KVTIER_ASSIGN_OR_RETURN(const SegmentGrant grant,
                          fixture.engine().GrantSegment(client, word, false));
  std::byte* const base = fixture.pool(grant.pool.value()).Address(grant.segment);
  return base + grant.slot_bytes.count() * word.slot();
}

InPlaceWriter::InPlaceWriter(EngineFixture* fixture, uint16_t tenant)
    : fixture_(fixture),
      page_(std::make_unique<wire::ClientPage>()),
      caller_(fixture->Attach(tenant)) {
  const auto client = fixture->engine().AttachShared(caller_, page_.get());
  KVTIER_CHECK(client.ok());
  client_ = *client;
}

InPlaceWriter::~InPlaceWriter() {
  if (page_ != nullptr) End();
}

absl::StatusOr<ReservationId> InPlaceWriter::Reserve(ModelId model, const wire::ChunkKey& parent) {
  ReserveArgs args;
  args.model = model;
  args.parent = parent;
  args.in_place = true;
  return fixture_->engine().Reserve(caller_, args, fixture_->now());
}

std::vector<wire::ResidencyWord> InPlaceWriter::Words(ReservationId reservation) {
  std::vector<uint64_t> bits;
  KVTIER_CHECK(fixture_->engine().ReservationWords(caller_, reservation, bits).ok());
  std::vector<wire::ResidencyWord> words;
  for (const uint64_t word : bits) words.emplace_back(word);
  return words;
}

CommitArgs InPlaceWriter::Fill(ReservationId reservation, ModelId model,
                               const wire::ChunkKey& key) {
  const auto info = fixture_->engine().Describe(caller_, reservation);
  KVTIER_CHECK(info.ok());
  if (!info->in_place) return fixture_->Fill(caller_, reservation, 0, model, key, {});
  const ModelSpec& spec = *fixture_->engine().FindModel(caller_.tenant, model);
  CommitArgs args;
  args.key = key;
  args.token_count = spec.chunk_tokens;
  const std::vector<wire::ResidencyWord> words = Words(reservation);
  for (size_t i = 0; i < info->planes.size(); ++i) {
    const PlaneIndex plane = info->planes[i];
    const auto content =
        BlockContent(caller_.tenant, model, key, plane, spec.planes[plane.value()].bytes_per_chunk);
    const auto address = InPlaceAddress(*fixture_, client_, words[i]);
    KVTIER_CHECK(address.ok());
    std::memcpy(*address, content.data(), content.size());
    args.checksums.push_back(ContentChecksum(content));
  }
  return args;
}

absl::StatusOr<CommitOutcome> InPlaceWriter::Put(ModelId model, const wire::ChunkKey& parent,
                                                 const wire::ChunkKey& key) {
  KVTIER_ASSIGN_OR_RETURN(const ReservationId reservation, Reserve(model, parent));
  const CommitArgs args = Fill(reservation, model, key);
  auto outcome = fixture_->engine().Commit(caller_, reservation, args, fixture_->now());
  // It ended with the commit of its last block, if that was possible.
  (void)fixture_->engine().Abort(caller_, reservation);
  return outcome;
}

}  // namespace kvtier::test_support
