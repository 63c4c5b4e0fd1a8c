package postgres

// RotateSQL are the statements of RotateBatch, the ordinary one first.
var RotateSQL = []string{rotateBatch, rotateNewcomers}

// BatchSettings are what that plan is made under.
const BatchSettings = batchSettings
