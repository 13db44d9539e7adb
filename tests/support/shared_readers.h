// Clients that read an engine's shared memory on their own, beside the operations of an OpWorld:
// what they found in a section must stay as it was until the section ends, and what they find must
// be what the model has.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "proto/wire/client_page.h"
#include "proto/wire/index_reader.h"
#include "tests/support/engine_fixture.h"
#include "tests/support/reference_model.h"

namespace kvtier::test_support {

// Not thread-safe. Does nothing where the fixture shares no memory. What is wrong is returned as
// text; empty: nothing.
class SharedReaders {
 public:
  static constexpr size_t kReadersMax = 4;
  static constexpr size_t kSectionsMax = 4;  // open at once, of one reader

  SharedReaders(EngineFixture* fixture, const ReferenceModel* model)
      : fixture_(fixture), model_(model) {}

  bool enabled() const { return !fixture_->index_memory().empty(); }
  // What it did, for the coverage, in `done`.
  std::string Attach(Caller caller, std::string& done);
  // Opens a section of the reader `which` (modulo those that are there), and finds the keys in it;
  // `by_timeline`: a timeline word is to end it.
  std::string Open(uint8_t which, ModelId model, absl::Span<const wire::ChunkKey> keys,
                   bool by_timeline, std::string& done);
  // Ends the oldest section of a reader, and reports what it read.
  std::string Leave(uint8_t which, std::string& done);
  // The reader writes nonsense into its page, where its own sections are not.
  void Scribble(uint8_t which, uint64_t seed, std::string& done);
  // Its process ends.
  std::string End(uint8_t which, std::string& done);
  // Ends all sections and readers.
  std::string Finish();

  // The session's client.
  std::optional<ShmClientId> ClientOf(Caller caller) const;
  // After each Tick of the engine.
  std::string Ticked();
  // Whether the session's client is over the section limit.
  bool OverLimit(Caller caller) const;
  // All that open sections hold is as it was.
  std::string CheckHeld() const;
  // Exactly the visible chunks are found.
  std::string CheckIndex() const;
  // A test flipped bits there.
  void Damaged(const std::byte* address);

 private:
  struct Target {
    wire::ResidencyWord word;
    SlotAddress slot;
    const std::byte* address = nullptr;
    std::vector<std::byte> bytes;
  };
  struct HeldRow {
    wire::IndexReader::Row row;
    wire::ChunkKey key;
    std::vector<Target> targets;
  };
  struct Section {
    uint32_t slot = 0;
    uint32_t timeline = 0;  // number + 1; 0: none
    std::optional<absl::Time> seen;
    std::vector<HeldRow> rows;
  };
  struct Reader {
    Caller caller;
    ShmClientId client;
    std::unique_ptr<wire::ClientPage> page;
    std::unique_ptr<wire::IndexReader> index;
    uint32_t next_slot = 0;
    bool scribbled = false;
    std::vector<Section> sections;
  };

  Reader* Choose(uint8_t which) {
    return readers_.empty() ? nullptr : &readers_[which % readers_.size()];
  }
  std::string CheckRow(const HeldRow& held) const;

  EngineFixture* fixture_;
  const ReferenceModel* model_;
  std::vector<Reader> readers_;
};

}  // namespace kvtier::test_support
