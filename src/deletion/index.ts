/**
 * Deletion: what is known of a person or a project goes, everywhere but in the raw log and the spools, which forget by their
 * retention. `carry-out.ts` is the procedure; `person.ts` and `project.ts` say what is another thing for each, `orders.ts`
 * is the record of it in Postgres, `conditions.ts` says which rows are a person's, `erase-rows.ts` takes rows out so that
 * the audit stays exact.
 */
export type { DeletionDeps } from './carry-out.ts'
export { DELETION_ERRORS } from './errors.ts'
export {
  deletionJson,
  deletionTable,
  doneText,
  isFinding,
  openText,
  previewText,
  projectDoneText,
  projectPreviewText,
} from './format.ts'
export { type Deletion, findOrder, listOrders, type Order, type Subject } from './orders.ts'
export { deletePerson, type PersonOrder, type Preview, previewPerson } from './person.ts'
export { deleteProject, type ProjectPreview, previewProject } from './project.ts'
