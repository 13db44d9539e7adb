// Read sections and the reuse of memory: who stores, fences and looks in which order.
//
// A reader announces in a word of its own page which `retire_epoch` it saw, fences, and only then
// looks up where blocks are. The engine takes an address out of the index, raises `retire_epoch` to
// E, tags the address with E, fences, and only then reads the readers' words. Of the two fences one
// comes first in the order of sequentially consistent operations: if it is the reader's, the engine
// sees the reader's word; if it is the engine's, the reader finds the new address. Either way
// nobody holds an address that is used again. docs/shared_memory.md explains each order;
// tests/model/read_sections.pml models it with the points named alike.
//
// Templates over the memory that is used, so that a test can step through the same code with a
// store buffer of its own: HardwareMemory is the real one.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <utility>

namespace kvtier::wire {

// The steps between which another process may do anything.
enum class ProtocolPoint : uint8_t {
  kReaderLoadEpoch,
  kReaderStoreSection,
  kReaderFence,
  kReaderResolve,
  kReaderRead,
  kReaderLeave,
  kEnginePublish,
  kEngineAppendLog,
  kEngineNewEpoch,
  kEngineTag,
  kEngineFence,
  kEngineScan,
  kEngineReuse,
  kEngineReaderEof,
  kEngineReaderEnd,
  kEngineReaderGoodbye,
};

// What may be left out by a test that shows what it is for. Nothing else derives from this.
struct WholeProtocol {
  static constexpr bool kReaderFenceOn = true;
  static constexpr bool kMarksBeforeFence = true;  // false: what it stores there comes too late
  static constexpr bool kEngineFenceOn = true;
  static constexpr bool kScansAfterUnpublish = true;  // false: frees what was retired after it, too
  static constexpr bool kTagIsNewEpoch = true;        // false: the epoch before
  static constexpr bool kAwaitsProcessEnd = true;     // false: a closed socket is enough
  // Of the relocation log: an entry is none while it is written; a reader looks at it twice.
  static constexpr bool kLogTakesEntryBack = true;
  static constexpr bool kLogLooksAgain = true;
};

struct HardwareMemory : WholeProtocol {
  using Word = std::atomic<uint64_t>;
  static uint64_t LoadAcquire(const Word& word) { return word.load(std::memory_order_acquire); }
  static void StoreRelease(Word& word, uint64_t value) {
    word.store(value, std::memory_order_release);
  }
  // Other threads of the process set other bits of the word.
  static void SetBits(Word& word, uint64_t bits) { word.fetch_or(bits, std::memory_order_relaxed); }
  static uint64_t LoadRelaxed(const Word& word) { return word.load(std::memory_order_relaxed); }
  static void StoreRelaxed(Word& word, uint64_t value) {
    word.store(value, std::memory_order_relaxed);
  }
  static void FenceAcquire() { std::atomic_thread_fence(std::memory_order_acquire); }
  static void FenceRelease() { std::atomic_thread_fence(std::memory_order_release); }
  static void Fence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
  static void Point(ProtocolPoint) {}
};

// `retire_epoch` starts here, so that no open section's word is zero.
inline constexpr uint64_t kFirstEpoch = 1;
// No section is open.
inline constexpr uint64_t kNoSection = std::numeric_limits<uint64_t>::max();

// Tells the engine that a word may have sections, unless it was told before: it looks at no others.
template <typename Memory = HardwareMemory>
void MarkUsed(typename Memory::Word& used, uint64_t bit) {
  if ((Memory::LoadAcquire(used) & bit) == 0) Memory::SetBits(used, bit);
}

// Opens the section of one word, which is 0; `bit` of `used` stands for that word. What is looked
// up afterwards stays readable until LeaveSection. Returns the epoch that it announced.
template <typename Memory = HardwareMemory>
uint64_t EnterSection(const typename Memory::Word& retire_epoch, typename Memory::Word& section,
                      typename Memory::Word& used, uint64_t bit) {
  Memory::Point(ProtocolPoint::kReaderLoadEpoch);
  // Acquire: whoever sees epoch E sees what was published before E.
  const uint64_t epoch = Memory::LoadAcquire(retire_epoch);
  Memory::Point(ProtocolPoint::kReaderStoreSection);
  // Before the fence, or happening before it in the thread that had this word first: by the fence
  // the engine sees the bit wherever it has to see the section, so that the order of the two stores
  // does not matter.
  if constexpr (Memory::kMarksBeforeFence) MarkUsed<Memory>(used, bit);
  Memory::StoreRelease(section, epoch);
  Memory::Point(ProtocolPoint::kReaderFence);
  if constexpr (Memory::kReaderFenceOn) Memory::Fence();
  if constexpr (!Memory::kMarksBeforeFence) MarkUsed<Memory>(used, bit);
  return epoch;
}

// Where a block is, by the word of one of its copies. Inside a section. Acquire: the bytes are
// there.
template <typename Memory = HardwareMemory>
uint64_t ResolveWord(const typename Memory::Word& word) {
  Memory::Point(ProtocolPoint::kReaderResolve);
  return Memory::LoadAcquire(word);
}

// Returns read(), which reads the bytes that were resolved in the same section.
template <typename Memory = HardwareMemory, typename Read>
auto ReadResolved(Read read) {
  Memory::Point(ProtocolPoint::kReaderRead);
  return read();
}

// Release: the reads of the section are over before anybody can see that it is.
template <typename Memory = HardwareMemory>
void LeaveSection(typename Memory::Word& section) {
  Memory::Point(ProtocolPoint::kReaderLeave);
  Memory::StoreRelease(section, 0);
}

// From here on the block is elsewhere, or nowhere; then this goes to the log, and then the address
// that it had is retired. Release: the bytes are there, and their checksum.
template <typename Memory = HardwareMemory>
void PublishWord(typename Memory::Word& word, uint64_t bits) {
  Memory::Point(ProtocolPoint::kEnginePublish);
  Memory::StoreRelease(word, bits);
}

// Addresses that are out of the index and may still be read, oldest first. The engine's only;
// `retire_epoch` has no other writer.
template <typename Item, typename Memory = HardwareMemory>
class RetiredQueue {
 public:
  // The item is not in the index any more: what replaced it is published, and in the log.
  void Retire(typename Memory::Word& retire_epoch, Item item) {
    Memory::Point(ProtocolPoint::kEngineNewEpoch);
    const uint64_t epoch = Memory::LoadAcquire(retire_epoch) + 1;
    Memory::StoreRelease(retire_epoch, epoch);
    Memory::Point(ProtocolPoint::kEngineTag);
    items_.push_back({Memory::kTagIsNewEpoch ? epoch : epoch - 1, std::move(item)});
  }

  // Calls `take(item)` for what no open section can hold, by what OldestSection found.
  template <typename Take>
  void TakeFree(uint64_t oldest, Take take) {
    while (!items_.empty() && items_.front().tag <= oldest) {
      Memory::Point(ProtocolPoint::kEngineReuse);
      take(items_.front().item);
      items_.pop_front();
    }
  }

  bool empty() const { return items_.empty(); }
  size_t size() const { return items_.size(); }

 private:
  struct Tagged {
    uint64_t tag;
    Item item;
  };
  std::deque<Tagged> items_;  // tags rise
};

// Between the last Retire and the scan whose result frees it; `used` words are read in that scan,
// too.
template <typename Memory = HardwareMemory>
void FenceBeforeScan() {
  Memory::Point(ProtocolPoint::kEngineFence);
  if constexpr (Memory::kEngineFenceOn) Memory::Fence();
}

// Up to which tag retired addresses may be used again. `scan` finds the least epoch of an open
// section, or kNoSection. What is retired from here on is beyond what it can say: a reader may
// resolve it after its words were looked at, and before it is out of the index.
template <typename Memory = HardwareMemory, typename Scan>
uint64_t OldestSection(const typename Memory::Word& retire_epoch, Scan scan) {
  FenceBeforeScan<Memory>();
  const uint64_t newest = Memory::LoadAcquire(retire_epoch);
  const uint64_t oldest = scan();
  return Memory::kScansAfterUnpublish ? std::min(newest, oldest) : oldest;
}

// What the engine makes of one section's words: its epoch, or kNoSection when it is not open. The
// words are the client's, who may write anything at any time: they are read once each, `timeline`
// of a number beyond `timeline_words` is never reached, and then the section counts as open.
struct SectionEnd {
  // `end` word: 0, or a timeline word's number + 1 above, and the value that ends the section
  // below: 16 and 48 bits.
  static constexpr uint64_t Pack(uint32_t timeline_word, uint64_t value) {
    return (uint64_t{timeline_word} + 1) << 48 | (value & kValueMask);
  }
  static constexpr uint64_t kValueMask = (uint64_t{1} << 48) - 1;
};

template <typename Memory = HardwareMemory>
uint64_t ReadSection(const typename Memory::Word& section, const typename Memory::Word& end,
                     const typename Memory::Word* timeline, size_t timeline_words) {
  Memory::Point(ProtocolPoint::kEngineScan);
  const uint64_t epoch = Memory::LoadAcquire(section);
  if (epoch == 0) return kNoSection;
  const uint64_t until = Memory::LoadAcquire(end);
  const uint64_t number = until >> 48;
  if (number == 0 || number > timeline_words) return epoch;
  const uint64_t value = Memory::LoadAcquire(timeline[number - 1]) & SectionEnd::kValueMask;
  return value >= (until & SectionEnd::kValueMask) ? kNoSection : epoch;
}

// When a client's words and mappings no longer count. A closed socket alone says nothing: the
// process may have closed it and read on. It takes the process's end, or its word that nothing is
// mapped any more; who lies reads what its own tenant writes next, and harms nobody else.
template <typename Memory = HardwareMemory>
class ReaderLife {
 public:
  void SocketClosed() {
    Memory::Point(ProtocolPoint::kEngineReaderEof);
    socket_closed_ = true;
  }
  void ProcessEnded() {
    Memory::Point(ProtocolPoint::kEngineReaderEnd);
    process_ended_ = true;
  }
  // Its last words: nobody takes others.
  void SaidGoodbye() {
    Memory::Point(ProtocolPoint::kEngineReaderGoodbye);
    said_goodbye_ = true;
  }
  // It is not gone, and has another socket.
  void SocketOpened() { socket_closed_ = false; }
  bool gone() const {
    return socket_closed_ && (process_ended_ || said_goodbye_ || !Memory::kAwaitsProcessEnd);
  }

 private:
  bool socket_closed_ = false;
  bool process_ended_ = false;
  bool said_goodbye_ = false;
};

}  // namespace kvtier::wire
