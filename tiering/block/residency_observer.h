// Who wants to know where blocks are, as it changes.
#pragma once

#include "tiering/base/ids.h"

namespace kvtier {

// Called by the block table from inside its own calls, with the table as it is afterwards; must not
// change it.
class ResidencyObserver {
 public:
  virtual ~ResidencyObserver() = default;

  // The row is new: it has no copies and nobody sees it.
  virtual void OnCreate(RowIndex row) = 0;
  // The row became visible: whole, and not forgotten. Or it is no longer: forgotten, or a required
  // plane lost its last copy, which OnCopies tells next.
  virtual void OnVisible(RowIndex row) = 0;
  virtual void OnInvisible(RowIndex row) = 0;
  // A block gained or lost a copy.
  virtual void OnCopies(RowIndex row, PlaneIndex plane) = 0;
  // The row, which is invisible and has no copies, is about to go.
  virtual void OnRemove(RowIndex row) = 0;
};

}  // namespace kvtier
