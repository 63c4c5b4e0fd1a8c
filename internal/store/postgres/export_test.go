package postgres

// RotateBatchSQL is for the test of its plan.
const RotateBatchSQL = rotateBatch

// BatchSettings are what that plan is made under.
const BatchSettings = batchSettings
