/**
 * Deletion: what is known of a person goes, everywhere but in the raw log and the spools, which forget by their
 * retention. `delete-person.ts` is the procedure, `orders.ts` the record of it in Postgres, `conditions.ts` says which rows
 * are a person's, `erase-rows.ts` takes them out so that the audit stays exact.
 */
export { type DeletionDeps, deletePerson, type Preview, previewPerson } from './delete-person.ts'
export { DELETION_ERRORS } from './errors.ts'
export { deletionJson, deletionTable, doneText, previewText } from './format.ts'
export { type Deletion, listOrders, type Order, type Subject } from './orders.ts'
