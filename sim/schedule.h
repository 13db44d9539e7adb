// Which worker plays which request of a trace, and when.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/trace.h"

namespace kvtier::sim {

struct ScheduleOptions {
  uint32_t workers = 1;
  uint32_t sessions = 1;  // so many sessions run at a time; of a trace that has sessions
  uint64_t seed = 0;
  uint64_t requests_max = kRequestsMax;
};

struct Play {
  double at_s = 0;  // the trace's time, from 0 on
  uint32_t request = 0;
  uint32_t worker = 0;
};

// The first `requests_max` requests by time. Conversations, and slots that sessions run in, stay
// with one worker, so their requests are played in order. A function of its arguments.
//
// Sessions start in seeded order, each when a slot is free and a seeded pause of up to
// kSessionPauseSecondsMax has passed; their own times say what follows.
std::vector<Play> MakeSchedule(const Trace& trace, const ScheduleOptions& options);
inline constexpr double kSessionPauseSecondsMax = 60;

// Numbers the conversations of a trace without sessions, one number a request. A request belongs to
// the conversation of an earlier one if it has all of that one's prompt, two blocks or more: the
// next turn, the same again, or a branch. The first one that has all but the last block, which may
// have been partly filled, counts as the next turn as well; more of them do not, as a system prompt
// that conversations have in common looks like that, nor does what branched off before. Such a
// branch starts a conversation. `requests` gives the order.
std::vector<uint32_t> LinkConversations(const Trace& trace, const std::vector<uint32_t>& requests);

}  // namespace kvtier::sim
