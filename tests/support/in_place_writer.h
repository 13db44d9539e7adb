// A client of shared memory that writes reservations in place, with what the daemon does for it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/wire/client_page.h"
#include "proto/wire/residency_word.h"
#include "tests/support/engine_fixture.h"

namespace kvtier::test_support {

// Where the client writes or reads what the word names. Where it was not given the segment for
// writing yet and it is its own inbox, it is now, maps it, and the segment is sealed.
absl::StatusOr<std::byte*> InPlaceAddress(EngineFixture& fixture, ShmClientId client,
                                          wire::ResidencyWord word);

// A session with such a client, on a fixture with EngineFixtureOptions::shared. Not thread-safe.
class InPlaceWriter {
 public:
  // `fixture` outlives it.
  explicit InPlaceWriter(EngineFixture* fixture, uint16_t tenant = 0);
  // Its process ends; the session stays.
  ~InPlaceWriter();
  InPlaceWriter(InPlaceWriter&&) = default;
  InPlaceWriter& operator=(InPlaceWriter&&) = delete;

  Caller caller() const { return caller_; }
  ShmClientId client() const { return client_; }
  // Its process is gone.
  void End() { fixture_->engine().EndShared(client_); }

  // Of one chunk behind `parent`.
  absl::StatusOr<ReservationId> Reserve(ModelId model, const wire::ChunkKey& parent = {});
  std::vector<wire::ResidencyWord> Words(ReservationId reservation);
  // Writes what BlockContent says into the only chunk, in place if the reservation is and as others
  // do if not, and returns what commits it.
  CommitArgs Fill(ReservationId reservation, ModelId model, const wire::ChunkKey& key);
  // All of that at once; the reservation is gone afterwards.
  absl::StatusOr<CommitOutcome> Put(ModelId model, const wire::ChunkKey& parent,
                                    const wire::ChunkKey& key);

 private:
  EngineFixture* fixture_;
  std::unique_ptr<wire::ClientPage> page_;
  Caller caller_;
  ShmClientId client_;
};

}  // namespace kvtier::test_support
