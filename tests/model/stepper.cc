#include "tests/model/stepper.h"

#include "tiering/base/check.h"

namespace kvtier {
namespace {

constexpr size_t kStackBytes = 64 << 10;
Stepper* g_running = nullptr;

}  // namespace

Stepper::Stepper(std::function<Setup()> setup) : make_setup_(std::move(setup)) {
  KVTIER_CHECK(g_running == nullptr);
  g_running = this;
}

Stepper::~Stepper() { g_running = nullptr; }

Stepper& Stepper::Running() { return *g_running; }

uint64_t Stepper::Mix(uint64_t hash, uint64_t value) {
  uint64_t x = (hash ^ value) + 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

void Stepper::Body() {
  Stepper& stepper = Running();
  Actor& actor = *stepper.actors_[stepper.running_];
  actor.body();
  actor.done = true;
  stepper.Yield();
}

// swapcontext asks the kernel for the signal mask each time, which took most of a run.
void Stepper::Yield() {
  if (_setjmp(actors_[running_]->place) == 0) _longjmp(scheduler_, 1);
}

void Stepper::Resume(size_t actor) {
  running_ = actor;
  Actor& resumed = *actors_[actor];
  if (_setjmp(scheduler_) == 0) {
    if (resumed.begun) _longjmp(resumed.place, 1);
    resumed.begun = true;
    KVTIER_CHECK(setcontext(&resumed.first) == 0);
  }
  running_ = kNobody;
}

void Stepper::GiveWay(const char* step) {
  actors_[running_]->step = step;
  Note(1);
  Yield();
}

uint64_t Stepper::Load(const SteppedWord& word) {
  uint64_t value = word.value;
  for (const Stored& stored : actors_[running_]->buffer)
    if (stored.word == &word) value = stored.value;
  Note(value);
  return value;
}

void Stepper::Store(SteppedWord& word, uint64_t value, bool with_next) {
  actors_[running_]->buffer.push_back({&word, value, with_next});
}

void Stepper::Fence() { AwaitStored(running_); }

void Stepper::AwaitStored(size_t actor) {
  if (AllStored(actor)) return;
  actors_[running_]->awaits = actor;
  Yield();
}

uint64_t Stepper::Choose(uint64_t below) {
  const uint64_t choice = NextChoice(below);
  Note(choice);
  return choice;
}

void Stepper::Note(uint64_t value) {
  uint64_t& own = actors_[running_]->own;
  own = Mix(own, value);
}

void Stepper::Settle(uint64_t own_state) { actors_[running_]->own = Mix(1, own_state); }

void Stepper::Check(bool holds, const char* name) {
  if (!holds && failure_.empty()) failure_ = name;
}

void Stepper::Stop(size_t actor) {
  actors_[actor]->done = true;
  actors_[actor]->awaits = kNobody;
  actors_[actor]->own = 0;  // whatever it was about to do
}

size_t Stepper::NextChoice(size_t below) {
  if (made_ == choices_.size()) choices_.push_back({0, below});
  KVTIER_CHECK(choices_[made_].below == below);  // the same choices lead to the same place
  return choices_[made_++].taken;
}

bool Stepper::Backtrack() {
  while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().below)
    choices_.pop_back();
  if (choices_.empty()) return false;
  ++choices_.back().taken;
  return true;
}

uint64_t Stepper::StateHash() const {
  uint64_t hash = setup_.state();
  for (const auto& actor : actors_) {
    hash = Mix(hash, actor->own);
    hash = Mix(hash, actor->done);
    hash = Mix(hash, actor->awaits);
    for (const Stored& stored : actor->buffer)
      hash = Mix(Mix(hash, static_cast<uint64_t>(reinterpret_cast<const char*>(stored.word) -
                                                 static_cast<const char*>(setup_.world.get()))),
                 stored.value);
  }
  return hash;
}

// Up to its first step.
void Stepper::Begin(size_t index, std::function<void()> body) {
  Actor& actor = *actors_[index];
  actor.body = std::move(body);
  actor.done = false;
  actor.begun = false;
  actor.step = "begins";
  KVTIER_CHECK(getcontext(&actor.first) == 0);
  actor.first.uc_stack.ss_sp = actor.stack.get();
  actor.first.uc_stack.ss_size = kStackBytes;
  actor.first.uc_link = nullptr;
  makecontext(&actor.first, &Stepper::Body, 0);
  Resume(index);
}

void Stepper::Run() {
  setup_ = make_setup_();
  const size_t last = setup_.actors.size();
  while (actors_.size() <= last) {
    actors_.push_back(std::make_unique<Actor>());
    actors_.back()->stack = std::make_unique<char[]>(kStackBytes);
  }
  made_ = 0;
  trail_.clear();
  for (const auto& actor : actors_) {
    actor->buffer.clear();
    actor->own = 0;
    actor->awaits = kNobody;
    actor->done = true;
  }
  for (size_t i = 0; i < last; ++i) Begin(i, setup_.actors[i]);
  bool ends = false;
  std::vector<std::pair<size_t, bool>> options;  // actor, whether its oldest store is meant
  while (failure_.empty()) {
    if (made_ == choices_.size() && !seen_.insert(StateHash()).second) return;
    options.clear();
    for (size_t i = 0; i < actors_.size(); ++i) {
      const Actor& actor = *actors_[i];
      if (!actor.buffer.empty()) options.emplace_back(i, true);
      if (!actor.done && (actor.awaits == kNobody || AllStored(actor.awaits)))
        options.emplace_back(i, false);
    }
    if (options.empty()) {
      if (ends) return;
      ends = true;
      Begin(last, setup_.end);
      continue;
    }
    const auto [i, stored] = options[NextChoice(options.size())];
    Actor& actor = *actors_[i];
    trail_.emplace_back(i, stored ? "stored" : actor.step);
    if (stored) {
      for (bool more = true; more && !actor.buffer.empty(); actor.buffer.pop_front()) {
        actor.buffer.front().word->value = actor.buffer.front().value;
        more = actor.buffer.front().with_next;
      }
    } else {
      actor.awaits = kNobody;
      Resume(i);
    }
  }
}

std::string Stepper::trail() const {
  std::string text;
  for (const auto& [actor, step] : trail_) text += std::to_string(actor) + ": " + step + "\n";
  return text;
}

bool Stepper::Explore(size_t states_max) {
  do {
    Run();
  } while (failure_.empty() && seen_.size() <= states_max && Backtrack());
  return failure_.empty() && seen_.size() <= states_max;
}

}  // namespace kvtier
