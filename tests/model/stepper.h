// Steps through every interleaving of a few actors on memory with store buffers (x86-TSO).
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace kvtier {

// One word of the memory that actors share.
struct SteppedWord {
  uint64_t value = 0;
};

// Actors are coroutines that give way before each step. An actor's stores go into its buffer, reach
// memory in their order at any later time, and are seen by its own loads at once. A run is given
// by its choices; after a run the last choice that has an alternative is changed, until there is
// none left (depth first). A run ends early where it meets a state that was seen before.
//
// An actor's own state is known by what it did: loads, choices and notes since it last settled.
// Whatever else an actor reads has to be noted, and whatever else makes a state different is in
// Setup::state. Actors are left where they are when a run ends, so they own nothing on their
// stacks. Not thread-safe; one at a time.
class Stepper {
 public:
  // What one run starts with; called anew for each. Destroyed with all that actors use after it.
  struct Setup {
    std::vector<std::function<void()>> actors;
    std::function<uint64_t()> state;  // of what is neither a word nor an actor's own
    std::function<void()> end;        // the last actor, when no other has anything left to do
    std::shared_ptr<void> world;
  };
  explicit Stepper(std::function<Setup()> setup);
  Stepper(const Stepper&) = delete;
  Stepper& operator=(const Stepper&) = delete;
  ~Stepper();

  // True when all was seen; false when a check failed or there was more than `states_max`.
  bool Explore(size_t states_max);
  size_t states() const { return seen_.size(); }
  // Of the failed check: its name, and the steps that led to it. Empty: none failed.
  const std::string& failure() const { return failure_; }
  std::string trail() const;

  // For actors.
  static Stepper& Running();
  void GiveWay(const char* step);  // a name that stays
  uint64_t Load(const SteppedWord& word);
  // `with_next`: reaches memory together with the actor's next store.
  void Store(SteppedWord& word, uint64_t value, bool with_next = false);
  void Fence();
  uint64_t Choose(uint64_t below);
  void Note(uint64_t value);
  void Settle(uint64_t own_state);  // instead of all that was noted
  void Check(bool holds, const char* name);
  // Takes no further step; its stores still reach memory.
  void Stop(size_t actor);
  bool AllStored(size_t actor) const { return actors_[actor]->buffer.empty(); }
  // Gives way until the actor's stores have reached memory.
  void AwaitStored(size_t actor);

  static uint64_t Mix(uint64_t hash, uint64_t value);

 private:
  struct Stored {
    SteppedWord* word;
    uint64_t value;
    bool with_next;
  };
  struct Actor {
    std::function<void()> body;
    std::unique_ptr<char[]> stack;
    ucontext_t first{};  // where it begins; then it is resumed at `place`
    jmp_buf place;
    bool begun = false;
    std::deque<Stored> buffer;
    uint64_t own = 0;
    size_t awaits = kNobody;  // an actor whose buffer has to be empty
    bool done = false;
    const char* step = nullptr;
  };
  static constexpr size_t kNobody = ~size_t{0};

  static void Body();
  void Run();
  void Begin(size_t index, std::function<void()> body);
  void Resume(size_t actor);
  void Yield();
  uint64_t StateHash() const;
  size_t NextChoice(size_t below);
  bool Backtrack();

  std::function<Setup()> make_setup_;
  Setup setup_;
  std::vector<std::unique_ptr<Actor>> actors_;
  jmp_buf scheduler_;
  size_t running_ = kNobody;

  struct Choice {
    size_t taken;
    size_t below;
  };
  std::vector<Choice> choices_;
  size_t made_ = 0;  // of this run
  std::unordered_set<uint64_t> seen_;
  std::vector<std::pair<size_t, const char*>> trail_;  // actor, step
  std::string failure_;
};

}  // namespace kvtier
